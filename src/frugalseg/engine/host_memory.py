"""Free main memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

DEFAULT_BYTES = 4 << 30
"""Assumed where the system does not report it: half of a small laptop's memory."""


def free_host_memory() -> int:
    """Bytes that this process can still allocate: free memory, within the limits of container and process."""
    limits = [*_read_system_memory(), *_read_cgroup_memory(), *_read_process_memory()]
    return max(0, min(limits)) if limits else DEFAULT_BYTES


def used_memory() -> int:
    """Main memory that this process uses now, in bytes (resident set); 0 where the system does not tell."""
    try:
        import resource

        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):  # not Linux
        return 0


def peak_memory() -> int | None:
    """Largest main memory of this process until now, in bytes (resident set); None where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_system_memory() -> Iterator[int]:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        yield int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return


def _read_cgroup_memory() -> Iterator[int]:
    """Free memory of the container (cgroup 2), file cache included."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (folder / "memory.max").read_text().strip(), int((folder / "memory.current").read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if limit != "max":
        yield int(limit) - used + int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))


def _read_process_memory() -> Iterator[int]:
    """Remaining address space under `ulimit -v`."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return
    if limit != resource.RLIM_INFINITY:
        yield limit - used
