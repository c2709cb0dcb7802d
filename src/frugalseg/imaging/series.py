"""What a tree of DICOM series holds, and which series is the scan of each patient."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frugalseg.errors import OptionError, ScanError
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.folders import walk_folders
from frugalseg.imaging.formats import DICOM_INDEX, case_id, is_dicom_file, list_visible
from frugalseg.text import align_columns

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_SLICES, THINNEST, NOT = "most-slices", "thinnest", "not:"

SAME_GAP_MM = 0.01
"""Distances between slices that differ by less are the same: positions are rounded."""

MOST_SHOWN = 40
"""Series that the table in the terminal lists."""

_TAGS = (
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType", "Rows"),
    *("Columns", "NumberOfFrames", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
)


@dataclass(frozen=True)
class FoundSeries:
    """One series of a patient.

    Attributes:
        case: case id of the patient: the name of the sub-folder.
        folder: with its files.
        number: SeriesNumber, or "".
        description: SeriesDescription, or "".
        modality: Modality, or "".
        files: number of its files.
        pixel_mm: mm between rows and between columns; None where it is not stated.
        gap_mm: median distance between slices, or the thickness of a single one; None where it is not known.
        reason: why it is not used; "" if it is.
    """

    case: str
    folder: Path
    number: str
    description: str
    modality: str
    files: int
    pixel_mm: tuple[float, float] | None
    gap_mm: float | None
    reason: str = ""

    @property
    def spacing(self) -> str:
        """Distances of rows, columns and slices, for tables."""
        mm = (*(self.pixel_mm or (None, None)), self.gap_mm)
        return " × ".join("?" if value is None else f"{value:.3g}" for value in mm)


def list_series(images: Path) -> list[FoundSeries]:
    """Every series in the sub-folders of `images`, patient by patient; only headers are read.

    A series that cannot be a scan (no image, a localizer, several in one folder) has a reason; the others have none.
    """
    if not images.is_dir():
        return []
    return [
        one
        for patient in list_visible(images)
        if patient.is_dir()
        for folder, entries in walk_folders(patient)
        for one in _read_folder(case_id(patient), folder, [entry for entry in entries if is_dicom_file(entry)])
    ]


def _read_folder(case: str, folder: Path, files: Sequence[Path]) -> Iterator[FoundSeries]:
    members: dict[str, list[Dataset]] = {}
    for header in (_read_header(file) for file in files if file.name.upper() != DICOM_INDEX):
        uid = str(header.get("SeriesInstanceUID") or header.get("SeriesNumber") or "")
        members.setdefault(uid, []).append(header)
    for headers in members.values():
        one = _describe(case, folder, headers)
        if len(members) > 1 and not one.reason:
            one = replace(one, reason=f"{len(members)} series in one folder")
        yield one


def _read_header(path: Path) -> Dataset:
    from pydicom import Dataset, dcmread  # slow to import

    try:
        with BoundedReader(path) as file:
            return dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Exception:  # damaged; reported when the series is read
        return Dataset()


def _describe(case: str, folder: Path, headers: Sequence[Dataset]) -> FoundSeries:
    first = headers[0]
    try:
        pixel = [float(mm) for mm in first.get("PixelSpacing") or ()]
        gap = _measure_gap(headers)
    except (TypeError, ValueError):  # damaged values; reported when the series is read
        pixel, gap = [], None
    return FoundSeries(
        case=case,
        folder=folder,
        number=_to_text(first, "SeriesNumber"),
        description=_to_text(first, "SeriesDescription"),
        modality=_to_text(first, "Modality"),
        files=len(headers),
        pixel_mm=(pixel[0], pixel[1]) if len(pixel) == 2 else None,
        gap_mm=gap,
        reason=_find_fault(first),
    )


def _to_text(header: Dataset, tag: str) -> str:
    """A value on one line."""
    value = header.get(tag)
    return "" if value is None else " ".join(str(value).split())


def _find_fault(header: Dataset) -> str:
    """Why a series cannot be a scan, or ""."""
    from frugalseg.imaging.segments.kinds import KIND_NAMES, SOP_CLASSES

    if (kind := SOP_CLASSES.get(str(header.get("SOPClassUID") or ""))) is not None:
        return f"mask ({KIND_NAMES[kind]})"
    if not header.get("Rows") or not header.get("Columns"):
        return "no image"
    if "LOCALIZER" in [str(word).upper() for word in header.get("ImageType") or ()]:
        return "localizer"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return "multi-frame"
    needed = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    return "" if all(len(header.get(tag) or ()) == length for tag, length in needed) else "no position in the patient"


def _measure_gap(headers: Sequence[Dataset]) -> float | None:
    places = [header.ImagePositionPatient for header in headers if len(header.get("ImagePositionPatient") or ()) == 3]
    orientation = headers[0].get("ImageOrientationPatient") or ()
    if len(places) < 2 or len(orientation) != 6:
        thickness = headers[0].get("SliceThickness")
        return None if thickness in (None, "") else float(thickness)
    axes = np.array([float(value) for value in orientation])
    normal = np.cross(axes[:3], axes[3:])
    along = np.sort(np.array([[float(value) for value in place] for place in places]) @ normal)
    gaps = np.diff(along)
    gaps = gaps[gaps > SAME_GAP_MM]
    return float(np.median(gaps)) if gaps.size else None


def choose_series(found: Sequence[FoundSeries], rules: Sequence[str]) -> list[FoundSeries]:
    """The same series; those that the rules leave out have a reason.

    The rules narrow the choice in their order: `most-slices`; `thinnest`, the smallest distance between slices;
    `not:TEXT`, the description does not contain this text; any other text, the description contains it. Texts are
    compared without regard to case; `*` stands for any characters, `?` for one.

    Args:
        found: see `list_series`.
        rules: of --series.

    Raises:
        ScanError: a patient has no series left, or several; names them all. None is ever guessed.
        OptionError: an empty rule.
    """
    if any(not rule.removeprefix(NOT).strip() for rule in rules):
        raise OptionError("--series has an empty rule", f"give {MOST_SLICES}, {THINNEST}, or text of the description")
    by_case: dict[str, list[FoundSeries]] = {}
    for one in found:
        by_case.setdefault(one.case, []).append(one)
    chosen = [one for own in by_case.values() for one in _narrow(own, rules)]
    _require_one_each(chosen)
    return chosen


def _narrow(series: Sequence[FoundSeries], rules: Sequence[str]) -> list[FoundSeries]:
    chosen = list(series)
    for rule in rules:
        left = [one for one in chosen if not one.reason]
        judge = _make_judge(rule, left)
        chosen = [one if one.reason else replace(one, reason=judge(one)) for one in chosen]
    return chosen


def _make_judge(rule: str, left: Sequence[FoundSeries]) -> Callable[[FoundSeries], str]:
    """A function that says why the rule leaves out one of these series, or ""."""
    if rule == MOST_SLICES:
        most = max((one.files for one in left), default=0)
        return lambda one: "" if one.files == most else f"another has {most} slices"
    if rule == THINNEST:
        least = min((one.gap_mm for one in left if one.gap_mm is not None), default=0.0)
        return lambda one: (
            "" if one.gap_mm is not None and one.gap_mm < least + SAME_GAP_MM else f"another has {least:.3g} mm"
        )
    text = rule.removeprefix(NOT).strip()
    if rule.startswith(NOT):
        return lambda one: f"contains {text!r}" if _contains(one.description, text) else ""
    return lambda one: "" if _contains(one.description, text) else f"does not contain {text!r}"


def _contains(description: str, text: str) -> bool:
    return fnmatch.fnmatchcase(description.lower(), f"*{text.lower()}*")


def _require_one_each(chosen: Sequence[FoundSeries]) -> None:
    """Raise `ScanError` unless one series of every patient is left."""
    left = {one.case: [other for other in chosen if other.case == one.case and not other.reason] for one in chosen}
    wrong = {case: own for case, own in left.items() if len(own) != 1}
    if not wrong:
        return
    lines = []
    for case, own in wrong.items():
        shown = own or [one for one in chosen if one.case == case]
        listed = "".join(f"\n      {_describe_choice(one)}" for one in shown)
        lines.append(f"\n    {case}: {len(own) or 'no'} series {'are left' if own else 'is left'}{listed}")
    raise ScanError(
        f"--series does not choose one series of {len(wrong)} of {len(left)} patients:{''.join(lines)}",
        f"add or change rules ({MOST_SLICES}, {THINNEST}, TEXT, {NOT}TEXT), or move the folders of others away; "
        "series in one folder must be sorted into folders first",
    )


def _describe_choice(one: FoundSeries) -> str:
    own = f"{one.folder.name}: {one.description or 'no description'}, {one.files} files, {one.spacing} mm"
    return f"{own} ({one.reason})" if one.reason else own


HEAD = ("case", "folder", "number", "description", "modality", "files", "spacing_mm", "used")


def to_table(found: Sequence[FoundSeries], images: Path, scans: Mapping[Path, str]) -> list[tuple[str, ...]]:
    """A row for each series below the headings `HEAD`; `used` is yes or why not.

    Args:
        found: the series.
        images: folder that holds them all.
        scans: folder of each series that is used → its case id.
    """
    return [
        (
            scans.get(one.folder, one.case),
            str(one.folder.relative_to(images)),
            one.number,
            one.description,
            one.modality,
            str(one.files),
            one.spacing,
            "yes" if one.folder in scans else f"no: {one.reason or 'cannot be read'}",
        )
        for one in found
    ]


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """The rows below their headings for the terminal, at most `MOST_SHOWN`."""
    more = f"\n… and {len(rows) - MOST_SHOWN} more" if len(rows) > MOST_SHOWN else ""
    return align_columns([HEAD, *rows[:MOST_SHOWN]]) + more
