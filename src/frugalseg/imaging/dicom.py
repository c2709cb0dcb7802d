"""DICOM series of single-frame files, through pydicom.

The array's axes are those dcm2niix gives: columns, rows upside down, slices towards the head.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import dicom_files
from frugalseg.imaging.itk import LPS_TO_RAS
from frugalseg.imaging.volume import Array, Volume

GAP_TOLERANCE = 0.05
"""Slices are evenly spaced when no gap differs from the median by more than this share of it."""

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")

Points = npt.NDArray[np.float64]


def read_dicom(path: Path) -> Volume:
    """Read the series in a folder, or the one slice in a file, as HU or whatever the rescale tags say.

    Raises:
        ScanError: several series, slices of differing size or direction, a missing or doubled slice, a damaged
            file, or multi-frame files.
    """
    files = dicom_files(path) if path.is_dir() else [path]
    if not files:
        raise ScanError(f"{path} holds no DICOM files", "check the path")
    slices = [_open(file) for file in files]
    _check_one_series(path, slices)
    axes = _axes(slices[0])
    normal = np.cross(axes[:, 0], axes[:, 1])
    if normal[np.abs(normal).argmax()] < 0:
        normal = -normal  # towards the head (or front, or left), whatever the order of rows and columns
    positions = np.array([s.ImagePositionPatient for s in slices], dtype=np.float64)
    order = np.argsort(positions @ normal)
    slices, positions = [slices[i] for i in order], positions[order]
    step = _step(path, slices, positions, normal)

    array = np.stack([_pixels(s) for s in slices], axis=-1)  # (rows, columns, slices)
    row_mm, column_mm = (float(v) for v in slices[0].PixelSpacing)
    rows = array.shape[0]
    affine = np.eye(4)
    affine[:3, 0] = axes[:, 0] * column_mm
    affine[:3, 1] = -axes[:, 1] * row_mm
    affine[:3, 2] = step
    affine[:3, 3] = positions[0] + axes[:, 1] * row_mm * (rows - 1)
    affine[:3] = LPS_TO_RAS @ affine[:3]
    return Volume(array[::-1].transpose(1, 0, 2), affine, path)


def _open(file: Path) -> pydicom.Dataset:
    try:
        dataset = pydicom.dcmread(file, force=file.suffix.lower() == ".dcm")
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise ScanError(f"{file} cannot be read as DICOM: {error}", "copy or export it again") from error
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise ScanError(
            f"{file} is a multi-frame DICOM file, expected one file a slice",
            "convert it to NIfTI, with dcm2niix for example",
        )
    if missing := [tag for tag in GEOMETRY if not dataset.get(tag)]:
        raise ScanError(
            f"{file} has no {', '.join(missing)}, so it is no slice of a volume",
            "remove localisers, reports and other images from the folder",
        )
    return dataset


def _check_one_series(path: Path, slices: list[pydicom.Dataset]) -> None:
    series = Counter(str(s.get("SeriesInstanceUID", "")) for s in slices)
    if len(series) > 1:
        told = ", ".join(f"{uid or 'without UID'} ({count} files)" for uid, count in series.items())
        raise ScanError(f"{path} holds {len(series)} DICOM series: {told}", "put each series into a folder of its own")
    usual = Counter(_shape_and_direction(s) for s in slices).most_common(1)[0][0]
    for s in slices:
        if _shape_and_direction(s) != usual:
            raise ScanError(
                f"{s.filename} differs from the other slices of its series in size, direction or pixel spacing",
                "remove it from the folder, or put it into one of its own",
            )


def _shape_and_direction(s: pydicom.Dataset) -> tuple[float, ...]:
    numbers = [s.Rows, s.Columns, *s.PixelSpacing, *s.ImageOrientationPatient]
    return tuple(round(float(number), 4) for number in numbers)


def _axes(s: pydicom.Dataset) -> Points:
    """Unit vectors along a row and along a column, as columns of a (3, 2) matrix, in LPS."""
    return np.array(s.ImageOrientationPatient, dtype=np.float64).reshape(2, 3).T


def _step(path: Path, slices: list[pydicom.Dataset], positions: Points, normal: Points) -> Points:
    """The vector from one slice to the next, in LPS mm; slanted for a tilted gantry."""
    if len(slices) == 1:
        return normal * float(slices[0].get("SliceThickness") or 1.0)
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if (gaps < 0.01).any():
        place = int(np.argmin(gaps))
        raise ScanError(
            f"{slices[place].filename} and {slices[place + 1].filename} lie at the same position", "remove one of them"
        )
    uneven = np.flatnonzero(np.abs(gaps - usual) > GAP_TOLERANCE * usual)
    if len(uneven):
        place = int(uneven[0])
        raise ScanError(
            f"{path}: a slice is missing: the gap after {Path(str(slices[place].filename)).name} at "
            f"{positions[place] @ normal:.1f} mm is {gaps[place]:.2f} mm instead of {usual:.2f} mm",
            "export the whole series again",
        )
    step: Points = (positions[-1] - positions[0]) / (len(slices) - 1)
    return step


def _pixels(s: pydicom.Dataset) -> Array:
    """One slice (rows, columns) after its own rescaling: int16 where that holds it, else float32."""
    try:
        stored: Array = s.pixel_array
    except Exception as error:  # every decoder has exceptions of its own
        raise ScanError(f"{s.filename}: its pixels cannot be decoded: {error}", "copy or export it again") from error
    slope, intercept = float(s.get("RescaleSlope") or 1), float(s.get("RescaleIntercept") or 0)
    if slope.is_integer() and intercept.is_integer():
        rescaled: Array = stored.astype(np.int32) * int(slope) + int(intercept)
        if rescaled.min() >= -32768 and rescaled.max() <= 32767:
            return rescaled.astype(np.int16)
    scaled: Array = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return scaled
