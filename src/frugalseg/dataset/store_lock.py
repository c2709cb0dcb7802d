"""Where a store comes to be: `<store>.partial`, which one process at a time holds, also to add to a finished store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frugalseg.engine.files import check_out, sweep
from frugalseg.engine.lock import LOCK, lock_folder

OLDER_FILES = ("images.npy", "labels.npy", "slices.parquet", "split.json", "store.json")
"""What earlier versions left there when they were killed."""


def partial_folder(store: Path) -> Path:
    """The folder beside a store in which it is made."""
    return Path(f"{store.resolve()}.partial")


def is_occupied(store: Path) -> bool:
    """Whether something is at the place of a store, other than an empty folder."""
    return store.exists() and not (store.is_dir() and not any(store.iterdir()))


@contextmanager
def lock_store(store: Path) -> Iterator[Path]:
    """Keep other processes from making or changing a store; yields its `partial_folder`, kept while it holds work.

    Raises:
        RunError: another process works on the store.
        DiskError: the folder cannot be made.
    """
    partial = partial_folder(store)
    check_out(partial)
    lock = lock_folder(partial)
    try:
        if store.is_dir():
            sweep(store)
        yield partial
    finally:
        if not has_unfinished(store) or (store / "store.json").is_file():
            _remove_parts(partial)
        lock.release()


def has_unfinished(store: Path) -> bool:
    """Whether a store that is not there was begun."""
    return any(partial_folder(store).glob("parts-*/*"))


def _remove_parts(partial: Path) -> None:
    """Remove what is of no more use, and nothing that is not ours. A killed removal is done again by the next process;
    one that opened the lock's file meanwhile finds the store there, or creates the folder again."""
    for path in [*partial.glob("parts-*"), partial / "store"]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (*OLDER_FILES, LOCK):
        with suppress(OSError):
            (partial / name).unlink()
    with suppress(OSError):  # something else lies there
        partial.rmdir()
