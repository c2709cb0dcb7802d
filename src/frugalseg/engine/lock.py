"""One process at a time in a folder that a command fills over hours."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from frugalseg.engine.files import is_temporary, remove_orphans
from frugalseg.engine.progress import say
from frugalseg.errors import RunError, disk_errors

LOCK = ".lock"
"""The file in the folder; it stays when no process holds it: if it were deleted, two could hold files of that name."""

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def lock_folder(folder: Path) -> BaseFileLock:
    """Make the folder, keep other processes out of it until `release()`, and sweep up what killed ones left.

    The operating system releases the lock when the process exits. Within one process the lock is re-entrant.

    Raises:
        RunError: another process works there.
        DiskError: the folder cannot be made or written.
    """
    # No lock that is a file alone in place of the system's: it would outlive a killed process.
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True, fallback_to_soft=False)
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise RunError(
            f"another process works in {folder}", "wait for it, or stop it; or choose another --out"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        say(f"{folder} is on a file system without locks: make sure that no other process works there")
    else:
        if lock.lock_counter == 1:  # not where this process is at work there already
            remove_orphans(folder)
    return lock


def is_in_use(folder: Path, *beside: str) -> bool:
    """Whether a folder holds anything but a lock, what a killed process left half-written, and what is named."""
    return folder.is_dir() and any(
        entry.name not in (LOCK, *beside) and not is_temporary(entry) for entry in folder.iterdir()
    )
