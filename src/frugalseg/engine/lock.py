"""Lock of an output folder, so that only one process writes into it."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from frugalseg.engine.files import is_temporary, remove_orphans
from frugalseg.engine.progress import say
from frugalseg.errors import RunError, disk_errors

LOCK = ".lock"
"""Name of the lock file; it is never deleted, since two processes could then lock two files of this name."""

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def lock_folder(folder: Path) -> BaseFileLock:
    """Create the folder, lock it until `release()`, and remove temporary files of killed processes.

    The operating system releases the lock when the process exits. Within one process the lock is re-entrant.

    Raises:
        RunError: another process has locked it.
        DiskError: the folder cannot be created or written.
    """
    # No fallback to the mere existence of a file: that lock would outlive a killed process.
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
        say(f"{folder} is on a file system without locks: make sure that no other process writes to it")
    else:
        if lock.lock_counter == 1:  # not if this process has already locked it
            remove_orphans(folder)
    return lock


def is_in_use(folder: Path, *beside: str) -> bool:
    """Whether a folder contains anything except a lock, temporary files, and the names in `beside`."""
    return folder.is_dir() and any(
        entry.name not in (LOCK, *beside) and not is_temporary(entry) for entry in folder.iterdir()
    )
