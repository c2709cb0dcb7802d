"""Control groups of this process: what a container or a batch system lets it use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def list_groups(controller: str, memberships: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> Iterator[Path]:
    """The folders of the control groups that limit this process, the innermost first; none except on Linux.

    Args:
        controller: name in version 1, for example cpu or memory; version 2 has one folder for all.
        memberships: file with the groups of the process.
        root: folder of all groups.
    """
    try:
        lines = memberships.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and controller not in controllers.split(","):
            continue
        base = root if not controllers else root / controller
        group = base / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base))
