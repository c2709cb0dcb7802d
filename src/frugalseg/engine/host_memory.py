"""Free main memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from frugalseg.engine.cgroups import CGROUPS, list_groups

DEFAULT_BYTES = 4 << 30
"""Assumed where the system does not report it: half of a small laptop's memory."""


CGROUP_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""Files with limit and use, and the prefix of the names in memory.stat: version 2 and version 1."""
UNLIMITED = 1 << 62
"""A limit from here on means none, in version 1."""


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
    try:  # `getrusage` of Linux also counts the process that started this one
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return _read_peak_of_usage()


def _read_peak_of_usage() -> int | None:
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


def _read_cgroup_memory(memberships: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> Iterator[int]:
    """Free memory of each control group of this process that has a limit, file cache included."""
    for group in list_groups("memory", memberships, root):
        for limit_file, used_file, prefix in CGROUP_FILES:
            try:
                limit, used = (group / limit_file).read_text().strip(), int((group / used_file).read_text())
                fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if limit != "max" and int(limit) < UNLIMITED:
                cached = sum(int(fields.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
                yield int(limit) - used + cached


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
