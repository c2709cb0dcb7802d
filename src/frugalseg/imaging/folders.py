"""What lies in a folder: each entry is a scan, belongs to one, is a document, or is named as unread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.imaging.formats import DICOM_INDEX, DOCUMENTS, case_id, is_dicom_file, scan_suffix, visible

_HEADERS = (".mhd", ".nhdr")
"""Files whose voxels lie in a file beside them, of the same name but for its suffix."""

_NOTE, _EARLIER = "predictions.json", "coarse"
"""A folder of masks that this package wrote may hold the masks from before they were refined."""


@dataclass(frozen=True)
class Contents:
    """The entries of a folder.

    Attributes:
        scans: case id and scan file or DICOM folder; ids may be double.
        unread: files and folders from which no scan is read.
    """

    scans: list[tuple[str, Path]]
    unread: list[Path]


def look_through(folder: Path, entries: Sequence[Path]) -> Contents:
    """What the entries of a folder hold; the DICOM files that lie directly in it are left out, as they are one scan."""
    scans: list[tuple[str, Path]] = []
    unread: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            if entry.name == _EARLIER and (folder / _NOTE).is_file():
                continue
            series, others = _look_below(entry)
            scans += [(_series_id(entry, one, alone=len(series) == 1), one) for one in series]
            unread += [entry] if others and not series else others
        elif scan_suffix(entry) is not None:
            scans.append((case_id(entry), entry))
        elif not _is_known(entry, entries):
            unread.append(entry)
    return Contents(scans, unread)


def _look_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM folders at and below `folder`, and what else lies there that is no document."""
    series, others = [], []
    for place, entries in _walk(folder, set()):
        if any(is_dicom_file(entry) for entry in entries):
            series.append(place)  # the reader refuses what else lies among the slices
        else:
            others += [entry for entry in entries if not entry.is_dir() and not _is_known(entry, entries)]
    return series, others


def _walk(folder: Path, seen: set[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder at and below `folder` with its entries; links are followed, but none in a circle."""
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    entries = visible(folder)
    yield folder, entries
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, seen)


def _series_id(entry: Path, series: Path, alone: bool) -> str:
    """`P2/ST1/SE1` is P2 while it is the only series of P2, else P2_ST1_SE1."""
    return case_id(entry) if alone else "_".join([entry.name, *series.relative_to(entry).parts])


def _is_known(entry: Path, entries: Sequence[Path]) -> bool:
    """Whether a file that is no scan is a document, DICOM, or the voxels of a header beside it."""
    if entry.suffix.lower() in DOCUMENTS or entry.name.upper() == DICOM_INDEX or is_dicom_file(entry):
        return True
    headers = [one for one in entries if one.suffix.lower() in _HEADERS]
    return any(entry.name.startswith(f"{header.stem}.") for header in headers)
