"""Sort the entries of a folder: scans, files that belong to a scan, documents, and files that are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.imaging.formats import (
    DICOM_INDEX,
    DOCUMENTS,
    case_id,
    is_dicom_file,
    list_visible,
    scan_suffix,
    zarr_suffix,
)

_HEADERS = (".mhd", ".nhdr")
"""Header files whose voxels lie in a file of the same name with another suffix."""

_NOT_SCANS = {
    "coarse": "predictions.json",
    "previews": "predictions.json",
    "probabilities": "predictions.json",
    "work": "annotations.json",
}
"""Sub-folder without masks of its own → file that a folder with such a sub-folder has: masks before refinement,
previews and probabilities of a folder of predictions, and the server's files of a folder of annotations."""


@dataclass(frozen=True)
class FolderContents:
    """The entries of a folder.

    Attributes:
        scans: case id and scan file or DICOM folder; ids may occur twice.
        unread: files and folders that are not read.
    """

    scans: list[tuple[str, Path]]
    unread: list[Path]


def list_contents(folder: Path, entries: Sequence[Path]) -> FolderContents:
    """The scans among the entries of a folder, except DICOM files directly in it, which form one scan."""
    scans: list[tuple[str, Path]] = []
    unread: list[Path] = []
    for entry in entries:
        if is_scan(entry):
            scans.append((case_id(entry), entry))
        elif entry.is_dir():
            if entry.name in _NOT_SCANS and (folder / _NOT_SCANS[entry.name]).is_file():
                continue
            series, others = _find_series(entry)
            scans += [(_series_id(entry, one, alone=len(series) == 1), one) for one in series]
            unread += [entry] if others and not series else others
    return FolderContents(scans, sorted(unread + _unknown_files(entries)))


def is_scan(entry: Path) -> bool:
    """Whether an entry is named as a scan: a file, or an OME-Zarr folder."""
    return zarr_suffix(entry) is not None or (scan_suffix(entry) is not None and not entry.is_dir())


def _find_series(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM folders at and below `folder`, and the other files there that are not documents."""
    series, others = [], []
    for place, entries in walk_folders(folder):
        if any(is_dicom_file(entry) for entry in entries):
            series.append(place)  # other files among the slices are refused by the reader
        else:
            others += [entry for entry in entries if is_scan(entry)]
            others += _unknown_files(entries)
    return series, others


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder at and below `folder` with its entries, except within OME-Zarr; links are followed, each folder is
    visited once."""
    yield from _walk(folder, set())


def _walk(folder: Path, seen: set[Path]) -> Iterator[tuple[Path, list[Path]]]:
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    entries = list_visible(folder)
    yield folder, entries
    for entry in entries:
        if entry.is_dir() and zarr_suffix(entry) is None:
            yield from _walk(entry, seen)


def _series_id(entry: Path, series: Path, alone: bool) -> str:
    """Case id of a series: `P2/ST1/SE1` is P2 if it is the only series of P2, otherwise P2_ST1_SE1."""
    return case_id(entry) if alone else "_".join([entry.name, *series.relative_to(entry).parts])


def _unknown_files(entries: Sequence[Path]) -> list[Path]:
    """The files that are not a scan, a document, a DICOM file, or the voxels of a header file beside them."""
    headers = {entry.stem for entry in entries if entry.suffix.lower() in _HEADERS}
    return [
        entry
        for entry in entries
        if not entry.is_dir()
        and scan_suffix(entry) is None
        and entry.suffix.lower() not in DOCUMENTS
        and entry.name.upper() != DICOM_INDEX
        and not headers & _name_prefixes(entry.name)
        and not is_dicom_file(entry)
    ]


def _name_prefixes(name: str) -> set[str]:
    """Possible stems of its header file: `a.b.raw`, `a.b` and `a` for `a.b.raw.gz`."""
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}
