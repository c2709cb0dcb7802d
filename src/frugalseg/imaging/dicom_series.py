"""DICOM headers: which files form one series, in which order, and where the volume lies in the patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from frugalseg.errors import ScanError
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.dicom_header import check_dicom_header
from frugalseg.imaging.dicom_values import StoredValues, read_stored_values
from frugalseg.imaging.formats import DICOM_INDEX, DOCUMENTS, PICTURES, is_dicom_file, list_visible
from frugalseg.imaging.itk import LPS_TO_RAS
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import format_vector
from frugalseg.text import name_some

Vector = npt.NDArray[np.float64]

SAME_PLACE_MM = 1e-3
EVEN_GAP = 0.05
"""Tolerated deviation of a gap between slices, as a fraction of the median gap (stored positions are rounded)."""

MISSING_SHARE = 0.1
"""If more than this fraction of the gaps is too wide, the scan was acquired that way and no slice is missing."""

ONE_SERIES = "keep one series per folder, or convert them with dcm2niix and give the NIfTI files"


@dataclass(frozen=True)
class Slice:
    """The header of one file.

    Attributes:
        series: identity of its series, and a readable description.
        shape: rows, columns.
        spacing: mm between rows, mm between columns.
        position: centre of the first pixel, mm, LPS.
        along_row, along_column: unit vectors in LPS, in the direction of increasing column and row index.
        thickness: mm, None if not stated.
        stored: how its stored values are rescaled.
    """

    path: Path
    series: tuple[str, str]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    position: Vector
    along_row: Vector
    along_column: Vector
    thickness: float | None
    stored: StoredValues

    @property
    def normal(self) -> Vector:
        """Unit vector perpendicular to the slice, LPS; towards superior for axial slices."""
        normal = np.cross(self.along_row, self.along_column)
        normal /= np.linalg.norm(normal)
        downwards = np.argmax(np.abs(normal)) == 2 and normal[2] < 0
        return -normal if downwards else normal


def list_slices(path: Path) -> list[Slice]:
    """The headers of a file, or of every DICOM file of a folder.

    Raises:
        ScanError: a file is damaged, not DICOM, or not one grey-value slice with a position in the patient.
    """
    if path.is_file():
        return [read_header(path)]
    beside = DOCUMENTS | PICTURES
    files = [
        f
        for f in list_visible(path)
        if f.is_file() and f.name.upper() != DICOM_INDEX and f.suffix.lower() not in beside
    ]
    for file in files:
        if not is_dicom_file(file):
            raise scan_error(file, "lies among DICOM files but is not a DICOM file, or is damaged")
    return [read_header(file) for file in files]


def read_header(path: Path) -> Slice:
    """The header of one DICOM file; raises `ScanError` unless it is one grey-value slice with a position."""
    try:
        check_dicom_header(path)
        # force: files without the preamble or SOPClassUID are images too.
        with BoundedReader(path) as file:
            dataset = dcmread(file, force=True, stop_before_pixels=True)
        _require_slice(path, dataset)
        return _read_slice(path, dataset)
    except ScanError:
        raise
    except Exception as error:  # pydicom passes on whatever its parsers raise on damaged bytes
        raise scan_error(path, f"has a damaged DICOM header ({type(error).__name__}: {error})") from error


def read_modality(path: Path) -> str:
    """The Modality tag of a file, such as CT or MR; "" if it is missing or unreadable."""
    try:
        with BoundedReader(path) as file:
            dataset = dcmread(file, force=True, stop_before_pixels=True, specific_tags=["Modality"])
        return str(dataset.get("Modality") or "").strip().upper()
    except Exception:  # damaged; reported when the voxels are read
        return ""


def _require_slice(path: Path, dataset: Dataset) -> None:
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise scan_error(
            path,
            f"is an enhanced multi-frame file ({dataset.NumberOfFrames} frames), expected one slice per file",
            "convert it with dcm2niix and give the NIfTI file",
        )
    if not dataset.get("Rows") or not dataset.get("Columns"):
        modality = dataset.get("Modality") or "unknown"
        raise scan_error(path, f"holds no image (modality {modality})", "keep only the files of one scan in the folder")
    needed = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    missing = [tag for tag, length in needed.items() if len(dataset.get(tag) or ()) != length]
    if missing:
        raise scan_error(
            path,
            f"does not state its position in the patient ({', '.join(missing)} missing)",
            "remove localizers and screenshots, or convert the series with dcm2niix and give the NIfTI file",
        )


def _read_slice(path: Path, dataset: Dataset) -> Slice:
    orientation = np.array([float(v) for v in dataset.ImageOrientationPatient])
    position = np.array([float(v) for v in dataset.ImagePositionPatient])
    if not np.isfinite(position).all():
        raise scan_error(path, "has a position that is not finite")
    # Perpendicular unit vectors span an area of 1; NaN fails too.
    if not np.linalg.norm(np.cross(orientation[:3], orientation[3:])) > 0.9:
        raise scan_error(path, f"has an impossible ImageOrientationPatient {format_vector(orientation)}")
    rows_mm, columns_mm = (float(v) for v in dataset.PixelSpacing)
    if not (0 < rows_mm < np.inf and 0 < columns_mm < np.inf):
        raise scan_error(
            path, f"has zero spacing {(rows_mm, columns_mm)}", "correct the header: PixelSpacing in mm, above 0"
        )
    return Slice(
        path=path,
        series=_identify_series(dataset),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        spacing=(rows_mm, columns_mm),
        position=position,
        along_row=orientation[:3],
        along_column=orientation[3:],
        thickness=_thickness(dataset),
        stored=read_stored_values(path, dataset),
    )


def _identify_series(dataset: Dataset) -> tuple[str, str]:
    """Identity and description; anonymised files may lack the UID but keep the series number."""
    number = dataset.get("SeriesNumber")
    identity = str(dataset.get("SeriesInstanceUID") or "") or f"series number {'' if number is None else number}"
    described = str(dataset.get("SeriesDescription") or "no description")
    return identity, f"{described}, number {'unknown' if number is None else number}"


def _thickness(dataset: Dataset) -> float | None:
    for tag in ("SliceThickness", "SpacingBetweenSlices"):
        value = dataset.get(tag)
        if value not in (None, "") and float(value) > 0:
            return float(value)
    return None


def sort_slices(slices: Sequence[Slice], path: Path) -> list[Slice]:
    """The slices of one series, sorted along their normal.

    Raises:
        ScanError: several series; a file whose size, orientation or pixel spacing differs from the others; rescaling
            tags in only some of the slices; duplicate positions; uneven gaps; or a missing slice.
    """
    _require_one_series(slices, path)
    _require_same_encoding(slices, "rescaling", lambda s: s.stored.rescaling_tags)
    _require_same_encoding(slices, "unit (RescaleType)", lambda s: s.stored.unit or "not stated")
    _require_same_geometry(slices, "size in pixels", lambda s: s.shape, tolerance=0)
    _require_same_geometry(slices, "pixel spacing", lambda s: s.spacing, tolerance=1e-3)
    _require_same_geometry(slices, "orientation", lambda s: (*s.along_row, *s.along_column), tolerance=1e-3)
    normal = slices[0].normal
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(ordered) > 1:
        _require_even_spacing(ordered, normal)
    return ordered


def _require_one_series(slices: Sequence[Slice], path: Path) -> None:
    series: dict[str, list[Slice]] = {}
    for one in slices:
        series.setdefault(one.series[0], []).append(one)
    if len(series) > 1:
        listed = "".join(
            f"\n    {identity} ({members[0].series[1]}): {len(members)} files, such as {members[0].path.name}"
            for identity, members in sorted(series.items())
        )
        raise scan_error(path, f"holds {len(series)} series, expected one:{listed}", ONE_SERIES)


def _require_same_geometry(
    slices: Sequence[Slice], what: str, key: Callable[[Slice], tuple[float, ...]], tolerance: float
) -> None:
    found = [tuple(round(float(v), 4) for v in key(one)) for one in slices]
    usual = Counter(found).most_common(1)[0][0]
    odd = [i for i, values in enumerate(found) if np.abs(np.subtract(values, usual)).max() > tolerance]
    if odd:
        raise scan_error(
            slices[odd[0]].path,
            f"has another {what} {format_vector(found[odd[0]])} than the other slices {format_vector(usual)} "
            f"({len(odd)} of {len(slices)} files differ)",
            "remove localizers and other scans: a folder may hold the slices of one scan only",
        )


def _require_same_encoding(slices: Sequence[Slice], what: str, key: Callable[[Slice], str]) -> None:
    """Raise `ScanError` unless all slices have the same rescaling tags or units; their values may differ (PET, MR)."""
    found = Counter(key(one) for one in slices)
    if len(found) < 2:
        return
    (usual, _), (other, count) = found.most_common(2)
    odd = [one.path.name for one in slices if key(one) != usual]
    raise scan_error(
        slices[0].path.parent,
        f"holds slices with another {what} ({other}: {count}) than most ({usual}: {found[usual]}): {name_some(odd)}",
        "export the whole series again: some of its slices lack tags that are needed to interpret their values",
    )


def _require_even_spacing(ordered: Sequence[Slice], normal: Vector) -> None:
    """Raise `ScanError` unless the slices are evenly spaced along one line."""
    places = np.array([one.position for one in ordered])
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    if gaps.min() < SAME_PLACE_MM:
        before, after = ordered[int(gaps.argmin())], ordered[int(gaps.argmin()) + 1]
        raise scan_error(
            after.path,
            f"lies at the same position as {before.path.name}, {format_vector(before.position)} mm",
            "remove the copy; for a series with several time points or echoes, keep one of them per folder",
        )
    odd = np.flatnonzero(np.abs(gaps - usual) > EVEN_GAP * usual)
    if len(odd):
        raise _uneven_slices_error(ordered, gaps, usual, odd)
    step = (places[-1] - places[0]) / (len(places) - 1)
    off = np.linalg.norm(places - (places[0] + np.arange(len(places))[:, None] * step), axis=1)
    worst = int(off.argmax())
    if off[worst] > 2 * EVEN_GAP * usual:
        raise scan_error(
            ordered[worst].path,
            f"lies {off[worst]:.2f} mm off the line from the first to the last slice",
            "keep only the slices of one scan in the folder, or convert it with dcm2niix and give the NIfTI file",
        )


def _uneven_slices_error(ordered: Sequence[Slice], gaps: Vector, usual: float, odd: npt.NDArray[np.intp]) -> ScanError:
    """A few gaps of a multiple of the median are missing slices; other or many wide gaps are a property of the scan."""
    folder, at = ordered[0].path.parent, int(odd[0])
    multiples = gaps[odd] / usual
    whole = np.abs(multiples - np.rint(multiples)) < EVEN_GAP * multiples
    if (whole & (multiples > 1.5)).all() and len(odd) <= max(1, MISSING_SHARE * len(gaps)):
        return _missing_slices_error(ordered[at], ordered[at + 1], float(gaps[at]), usual, len(odd))
    return scan_error(
        folder,
        f"has uneven slices: {_format_gaps(ordered, gaps, usual, odd)}",
        "convert the series with dcm2niix, which resamples it to even gaps, and give the NIfTI file",
    )


def _missing_slices_error(before: Slice, after: Slice, gap: float, usual: float, places: int) -> ScanError:
    lacking = round(gap / usual) - 1
    position = before.position + (after.position - before.position) / (lacking + 1)
    elsewhere = f"; {places - 1} more such gaps" if places > 1 else ""
    return scan_error(
        after.path.parent,
        f"lacks {lacking} slice{'s' if lacking > 1 else ''} at position {format_vector(position)} mm (between "
        f"{before.path.name} and {after.path.name}: {gap:.3f} mm, {usual:.3f} mm elsewhere{elsewhere})",
        "export the whole series again",
    )


def _format_gaps(ordered: Sequence[Slice], gaps: Vector, usual: float, odd: npt.NDArray[np.intp]) -> str:
    """Describe gaps: a single odd one by its files, two ranges as below and above, others by how often each occurs."""
    at = int(odd[0])
    if len(odd) == 1:
        between = f"between {ordered[at].path.name} and {ordered[at + 1].path.name}"
        return f"{gaps[at]:.3f} mm {between}, {usual:.3f} mm elsewhere"
    change = np.flatnonzero(np.abs(np.diff(gaps)) > EVEN_GAP * usual)
    if len(change) == 1:
        turn = ordered[int(change[0]) + 1]
        low, high = ("below", "above") if np.argmax(np.abs(turn.normal)) == 2 else ("before", "after")
        return f"{gaps[0]:.3g} mm {low} {turn.path.name}, {gaps[-1]:.3g} mm {high} it"
    sizes = Counter(f"{gap:.2f}" for gap in gaps)
    most = ", ".join(f"{size} mm ({count} times)" for size, count in sizes.most_common(5))
    return f"gaps of {most}{' and others' if len(sizes) > 5 else ''}"


def series_affine(slices: Sequence[Slice], path: Path) -> Vector:
    """Affine of sorted slices, 4×4: index (column, row from the bottom, slice) → mm in RAS+."""
    first = slices[0]
    rows_mm, columns_mm = first.spacing
    upwards = -first.along_column * rows_mm
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * columns_mm
    lps[:3, 1] = upwards
    lps[:3, 2] = _slice_step(slices, path)
    lps[:3, 3] = first.position - upwards * (first.shape[0] - 1)
    return LPS_TO_RAS @ lps


def _slice_step(slices: Sequence[Slice], path: Path) -> Vector:
    if len(slices) > 1:
        step: Vector = (slices[-1].position - slices[0].position) / (len(slices) - 1)
        return step
    thickness = slices[0].thickness
    if thickness is None:
        raise scan_error(path, "is a single slice without SliceThickness", "give the whole series")
    return slices[0].normal * thickness
