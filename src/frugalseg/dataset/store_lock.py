"""The working folder `<store>.partial` of a store, locked by the one process that makes or extends the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frugalseg.engine.files import check_out, remove_orphans
from frugalseg.engine.lock import LOCK, lock_folder

OLDER_FILES = ("images.npy", "labels.npy", "slices.parquet", "split.json", "store.json")
"""Files that earlier versions left there when they were killed."""


def partial_folder(store: Path) -> Path:
    """The folder beside a store in which its parts are made."""
    return Path(f"{store.resolve()}.partial")


def is_occupied(store: Path) -> bool:
    """Whether the path of a store exists and is not an empty folder."""
    return store.exists() and not (store.is_dir() and not any(store.iterdir()))


@contextmanager
def lock_store(store: Path) -> Iterator[Path]:
    """Keep other processes from making or changing a store; yields its `partial_folder`, kept while it has parts.

    Raises:
        RunError: another process is using the store.
        DiskError: the folder cannot be created.
    """
    partial = partial_folder(store)
    check_out(partial)
    lock = lock_folder(partial)
    try:
        if store.is_dir():
            remove_orphans(store)
        yield partial
    finally:
        if not has_unfinished(store) or (store / "store.json").is_file():
            _remove_parts(partial)
        lock.release()


def has_unfinished(store: Path) -> bool:
    """Whether there are parts of an unfinished store."""
    return any(partial_folder(store).glob("parts-*/*"))


def _remove_parts(partial: Path) -> None:
    """Remove parts and other files that are not needed any more, but no foreign files.

    If the removal is killed, the next process repeats it. A process that opened the lock file in the meantime finds the
    finished store, or creates the folder again.
    """
    for path in [*partial.glob("parts-*"), partial / "store"]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (*OLDER_FILES, LOCK):
        with suppress(OSError):
            (partial / name).unlink()
    with suppress(OSError):  # foreign files remain
        partial.rmdir()
