"""What lies in a folder: each entry is a scan, belongs to one, is a document, or is named as unread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.imaging.formats import DICOM_INDEX, DOCUMENTS, case_id, is_dicom_file, list_visible, scan_suffix

_HEADERS = (".mhd", ".nhdr")
"""Files whose voxels lie in a file beside them, of the same name but for its suffix."""

_PREDICTIONS_FILE, _EARLIER_MASKS = "predictions.json", "coarse"
"""A folder of masks that this package wrote may hold the masks from before they were refined."""


@dataclass(frozen=True)
class FolderContents:
    """The entries of a folder.

    Attributes:
        scans: case id and scan file or DICOM folder; ids may be double.
        unread: files and folders from which no scan is read.
    """

    scans: list[tuple[str, Path]]
    unread: list[Path]


def list_contents(folder: Path, entries: Sequence[Path]) -> FolderContents:
    """What the entries of a folder hold; the DICOM files that lie directly in it are left out, as they are one scan."""
    scans: list[tuple[str, Path]] = []
    unread: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            if entry.name == _EARLIER_MASKS and (folder / _PREDICTIONS_FILE).is_file():
                continue
            series, others = _find_series(entry)
            scans += [(_series_id(entry, one, alone=len(series) == 1), one) for one in series]
            unread += [entry] if others and not series else others
        elif scan_suffix(entry) is not None:
            scans.append((case_id(entry), entry))
    return FolderContents(scans, sorted(unread + _unknown_files(entries)))


def _find_series(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM folders at and below `folder`, and what else lies there that is no document."""
    series, others = [], []
    for place, entries in _walk_folders(folder, set()):
        if any(is_dicom_file(entry) for entry in entries):
            series.append(place)  # the reader refuses what else lies among the slices
        else:
            others += [entry for entry in entries if scan_suffix(entry) is not None and not entry.is_dir()]
            others += _unknown_files(entries)
    return series, others


def _walk_folders(folder: Path, seen: set[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder at and below `folder` with its entries; links are followed, but none in a circle."""
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    entries = list_visible(folder)
    yield folder, entries
    for entry in entries:
        if entry.is_dir():
            yield from _walk_folders(entry, seen)


def _series_id(entry: Path, series: Path, alone: bool) -> str:
    """`P2/ST1/SE1` is P2 while it is the only series of P2, else P2_ST1_SE1."""
    return case_id(entry) if alone else "_".join([entry.name, *series.relative_to(entry).parts])


def _unknown_files(entries: Sequence[Path]) -> list[Path]:
    """The files that are neither scan nor document, nor DICOM, nor the voxels of a header beside them."""
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
    """`a.b.raw.gz` may belong to a header of the stem `a.b.raw`, `a.b` or `a`."""
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}
