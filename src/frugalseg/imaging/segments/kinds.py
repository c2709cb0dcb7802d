"""Which DICOM files hold masks, and the label value of each of their segments."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom import Dataset, dcmread

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.formats import is_dicom_file, list_visible
from frugalseg.imaging.validation import scan_error

MaskKind = Literal["seg", "rtstruct"]

SOP_CLASSES: Mapping[str, MaskKind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.66.7": "seg",  # label maps, of DICOM 2024
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
}
"""SOPClassUID → the kind of mask."""
KIND_NAMES: Mapping[MaskKind, str] = {"seg": "DICOM SEG", "rtstruct": "RTSTRUCT"}

SEGMENTS_FILE = "segments.csv"
"""A file beside such masks that says which of their segments are read, and with which label values."""

VALUE_TEXT = "label value {}"
_VALUE_PATTERN = re.compile(VALUE_TEXT.format(r"(\d+)"))
"""How the description of a segment states the label value that it had in the mask it was written from."""

_MOST = 65535


@dataclass(frozen=True)
class Segment:
    """One segment of a DICOM SEG object or region of an RTSTRUCT.

    Attributes:
        number: SegmentNumber or ROINumber.
        name: SegmentLabel or ROIName.
        stated: the label value that its description states, or None.
    """

    number: int
    name: str
    stated: int | None


def mask_kind(path: Path) -> MaskKind | None:
    """Whether a file is DICOM SEG or RTSTRUCT; None for any other file or a folder. Only the SOP class is read."""
    if not is_dicom_file(path):
        return None
    try:
        head = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return SOP_CLASSES.get(str(head.get("SOPClassUID") or ""))
    except Exception:  # damaged; reported when it is read as a scan
        return None


def find_mask_objects(folder: Path) -> list[Path]:
    """The DICOM SEG and RTSTRUCT files directly in a folder; none where its first DICOM file is a slice of a scan."""
    entries = list_visible(folder)
    first = next((entry for entry in entries if is_dicom_file(entry)), None)  # a series may have a thousand files
    if first is None or mask_kind(first) is None:
        return []
    return [entry for entry in entries if mask_kind(entry)]


def read_segments(path: Path) -> list[Segment]:
    """The segments of a DICOM SEG or RTSTRUCT file, without their voxels; raises `ScanError` if it is damaged."""
    kind = mask_kind(path)
    try:
        if kind == "seg":
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=["SegmentSequence"])
        else:
            dataset = dcmread(path, specific_tags=["StructureSetROISequence"])
        return list_segments(dataset)
    except Exception as error:  # pydicom passes on whatever its parsers raise on damaged bytes
        raise scan_error(path, f"is damaged ({type(error).__name__}: {error})") from error


def list_segments(dataset: Dataset) -> list[Segment]:
    """The segments that a SEG or RTSTRUCT data set describes."""
    if "SegmentSequence" in dataset:
        return [
            Segment(int(one.SegmentNumber), str(one.SegmentLabel), _find_stated(one.get("SegmentDescription")))
            for one in dataset.SegmentSequence
        ]
    return [
        Segment(int(one.ROINumber), str(one.get("ROIName") or ""), _find_stated(one.get("ROIDescription")))
        for one in dataset.get("StructureSetROISequence") or ()
    ]


def _find_stated(description: object) -> int | None:
    match = _VALUE_PATTERN.fullmatch(str(description or "").strip())
    return int(match[1]) if match else None


def label_values(path: Path, segments: Sequence[Segment]) -> dict[int, int]:
    """Number of each segment that is read → its label value.

    Where `SEGMENTS_FILE` lies beside the file, its rows (name, value) decide, and segments that it does not name are
    not read. Otherwise it is the value that the description states (in files that frugalseg wrote), or else the number.

    Raises:
        ScanError: no segment has a name of `SEGMENTS_FILE`, that file is damaged, or a value does not fit a mask.
    """
    table = path.parent / SEGMENTS_FILE
    if table.is_file():
        named = _read_segments_file(table)
        values = {one.number: named[one.name] for one in segments if one.name in named}
        if not values:
            names = ", ".join(one.name for one in segments)
            raise scan_error(path, f"holds no segment that {table} names; it holds {names}", f"correct {table}")
    else:
        values = {one.number: one.number if one.stated is None else one.stated for one in segments}
    if wrong := [value for value in values.values() if not 0 < value <= _MOST]:
        raise scan_error(path, f"would give the label value {wrong[0]}, expected 1…{_MOST}", f"name others in {table}")
    return values


def _read_segments_file(table: Path) -> dict[str, int]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return {row["name"].strip(): int(row["value"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise scan_error(
            table, "is not a table with the columns name and value", "write for example Liver,6"
        ) from error


def check_same_values(masks: Mapping[str, Path]) -> None:
    """Check that a segment's name has the same label value in all masks: one program numbers them as they were drawn.

    Args:
        masks: case id → mask of any format; only DICOM SEG and RTSTRUCT are opened.

    Raises:
        PairingError: a name has two values, or a value two names.
    """
    seen: dict[str, tuple[int, Path]] = {}
    owners: dict[int, tuple[str, Path]] = {}
    for path in masks.values():
        if mask_kind(path) is None:
            continue
        segments = read_segments(path)
        values = label_values(path, segments)
        for one in segments:
            if one.number not in values:
                continue
            value = values[one.number]
            before, where = seen.setdefault(one.name, (value, path))
            owner, first = owners.setdefault(value, (one.name, path))
            if before != value:
                raise _differing_error(f"{one.name!r} has number {value} in {path}, {before} in {where}", path)
            if owner != one.name and not (path.parent / SEGMENTS_FILE).is_file():
                raise _differing_error(f"number {value} is {one.name!r} in {path}, {owner!r} in {first}", path)


def _differing_error(problem: str, path: Path) -> PairingError:
    cure = f"write {path.parent / SEGMENTS_FILE} with the columns name and value, one row for each segment to read"
    return PairingError(problem, cure)


def overlap_error(path: Path, first: str, second: str) -> ScanError:
    """The error for two segments that share voxels: a mask has one label value per voxel."""
    return scan_error(
        path,
        f"has voxels that are both {first!r} and {second!r}; a mask has one label value per voxel",
        f"name the segments to read in {path.parent / SEGMENTS_FILE} (columns name and value), without one of the two",
    )
