"""One process at a time in a folder that a command fills over hours."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from frugalseg.engine.progress import say
from frugalseg.errors import RunError, disk_errors

LOCK = ".lock"
"""The file in the folder; it stays when nobody holds it: were it deleted, two could hold files of that name."""

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def lock_folder(folder: Path) -> BaseFileLock:
    """Make the folder and keep other processes out of it until `release()`.

    The system lets go of it when this process ends, however it ends. Within a process whoever asks gets the same
    lock, which counts: a process does not shut itself out.

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
        say(f"{folder} lies on a file system without locks: see to it that no other process works there")
    return lock
