"""Stamps of the files of a scan, by which later changes are detected."""

from __future__ import annotations

from pathlib import Path

from frugalseg.imaging.formats import zarr_suffix
from frugalseg.records.store import FileStamp

Stamps = tuple[FileStamp, FileStamp]
"""Stamps of an image and of its mask."""


def stamp_scan(image: Path, mask: Path | None) -> Stamps:
    """Stamp the files of a scan and of its mask."""
    return _stamp_file(image), FileStamp(None, 0, 0) if mask is None else _stamp_file(mask)


def _stamp_file(path: Path) -> FileStamp:
    files = path.rglob("*") if zarr_suffix(path) else path.iterdir() if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    newest = max((s.st_mtime_ns for s in stats), default=0)
    return FileStamp(str(path.resolve()), sum(s.st_size for s in stats), newest)
