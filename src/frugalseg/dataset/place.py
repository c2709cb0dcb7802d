"""Where a store comes to be: `<store>.partial`, which one process at a time holds, also to add to a finished store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frugalseg.engine.files import check_out, remove_orphans
from frugalseg.engine.lock import LOCK, lock_folder

OLDER = ("images.npy", "labels.npy", "slices.parquet", "split.json", "store.json")
"""What earlier versions left there when they were killed."""


def partial_of(store: Path) -> Path:
    """The folder beside a store in which it is made."""
    return Path(f"{store.resolve()}.partial")


def is_there(store: Path) -> bool:
    """Whether something is at the place of a store, other than an empty folder."""
    return store.exists() and not (store.is_dir() and not any(store.iterdir()))


@contextmanager
def place_of(store: Path) -> Iterator[Path]:
    """Keep other processes from making or changing a store; yields `partial_of` it, which stays while it holds work.

    Raises:
        RunError: another process works on the store.
        DiskError: the folder cannot be made.
    """
    partial = partial_of(store)
    check_out(partial)
    lock = lock_folder(partial)
    try:
        if store.is_dir():
            remove_orphans(store)
        yield partial
    finally:
        if not unfinished(store) or (store / "store.json").is_file():
            _clear(partial)
        lock.release()


def unfinished(store: Path) -> bool:
    """Whether a store that is not there was begun."""
    return any(partial_of(store).glob("parts-*/*"))


def _clear(partial: Path) -> None:
    """Remove what is of no more use, and nothing that is not ours. A killed removal is done again by the next process;
    one that opened the lock's file meanwhile finds the store there, or creates the folder again."""
    for path in [*partial.glob("parts-*"), partial / "store"]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (*OLDER, LOCK):
        with suppress(OSError):
            (partial / name).unlink()
    with suppress(OSError):  # something else lies there
        partial.rmdir()
