"""Read a scan or a mask of any accepted format."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.imaging.formats import (
    ACCEPTED_FORMATS,
    ITK,
    MGH,
    NIFTI,
    is_dicom_file,
    is_dicom_folder,
    scan_suffix,
    zarr_suffix,
)
from frugalseg.imaging.intensity import detect_padding
from frugalseg.imaging.validation import ScanWarning, scan_error, unknown_format
from frugalseg.imaging.volume import TOLERATED, Array, Volume

__all__ = ["ScanWarning", "read_labels", "read_volume"]

INTEGER_TOLERANCE = 1e-3
"""Tolerated deviation of a label value from an integer: with scaling in the header, 6 may be read as 5.9999."""

EXACT_IN_FLOAT32 = 1 << 24


def read_volume(path: Path) -> Volume:
    """Read one scan: a NIfTI, FreeSurfer, NRRD or MetaImage file, an OME-Zarr folder, a folder of DICOM files, or
    one DICOM file.

    Returns:
        The scan in the axes of its file. The array keeps the stored integer type if no scaling is stored, and is
        float32 otherwise, always finite; the affine is as stored, possibly oblique or sheared.

    Raises:
        ScanError: the file is missing, damaged, of another format, or not one 3D volume of real numbers.

    Warns:
        ScanWarning: NaN or infinite voxels were replaced by the lowest finite value; all voxels are equal; many voxels
            have a value far from the others, which looks like padding; the placement in the header is doubtful; or
            the axes are not at right angles.
    """
    volume = _load_volume(path)
    _warn_of_doubts(volume, path)
    volume = replace(volume, array=_replace_nonfinite(volume.array, path))
    _warn_of_odd_values(volume, path)
    return volume


def read_labels(path: Path) -> Volume:
    """Read one mask of integer labels.

    Returns:
        The mask in the axes of its file, in the smallest integer type that holds its values, unsigned if possible.

    Raises:
        ScanError: as `read_volume`, or a value is NaN, infinite or not an integer.
    """
    volume = _load_volume(path)
    if volume.padding is not None:  # in a mask stored as DICOM, padding is background
        volume.array[volume.array == volume.padding] = 0
        volume = replace(volume, padding=None)
    array = _round_labels(volume.array, path) if volume.array.dtype.kind == "f" else volume.array
    low, high = int(array.min()), int(array.max())
    return replace(volume, array=array.astype(_smallest_type(low, high), copy=False))


def _load_volume(path: Path) -> Volume:
    # Readers are imported on first use: their libraries are slow to import.
    suffix = scan_suffix(path)
    if zarr_suffix(path) is not None:
        from frugalseg.imaging.ome_zarr import load_ome_zarr

        return load_ome_zarr(path)
    if path.is_dir() or (suffix is None and is_dicom_file(path)):
        if path.is_dir() and not is_dicom_folder(path):
            raise scan_error(path, "is a folder without DICOM files", f"give a scan: {ACCEPTED_FORMATS}")
        from frugalseg.imaging.dicom import load_dicom

        return load_dicom(path)
    if suffix in NIFTI:
        from frugalseg.imaging.nifti import load_nifti

        return load_nifti(path)
    if suffix in MGH:
        from frugalseg.imaging.nifti import load_mgh

        return load_mgh(path)
    if suffix in ITK:
        from frugalseg.imaging.itk import load_itk

        return load_itk(path)
    if not path.exists():
        raise scan_error(path, "does not exist", "check the path")
    raise unknown_format(path)


def _warn_of_doubts(volume: Volume, path: Path) -> None:
    """Warn about doubts in the placement of a scan, in one warning. Masks need none: they use that of their scan."""
    doubts = list(volume.placement.doubts)
    voxels, mm = volume.corner_offset(volume.straighten())
    if voxels > TOLERATED:
        doubts.append(
            f"has axes that are not at right angles (gantry tilt?), by {mm:.3g} mm at its end; its masks have the same "
            "axes, but programs that support right angles only (many based on ITK, such as 3D Slicer) show both "
            "without the shear"
        )
    if doubts:
        # Python shows each text once per location; stacklevel 1 makes this line the location for all callers.
        warnings.warn(f"{path} {'; it '.join(doubts)}", ScanWarning, stacklevel=1)


def _replace_nonfinite(array: Array, path: Path) -> Array:
    """`array` with NaN and infinities replaced by the lowest finite value, in place if possible."""
    if array.dtype.kind != "f":
        return array
    bad = sum(int(np.count_nonzero(~np.isfinite(plane))) for plane in array.T)
    if bad == 0:
        return array
    if bad == array.size:
        raise scan_error(path, "has no finite value: every voxel is NaN or infinite", "export the scan again")
    lowest = min(float(np.min(plane, initial=np.inf, where=np.isfinite(plane))) for plane in array.T)
    finite = array if array.flags.writeable else array.copy(order="K")
    for plane in finite.T:
        plane[~np.isfinite(plane)] = lowest
    warnings.warn(
        f"{path}: {bad} of {array.size} voxels are NaN or infinite; they are replaced by {lowest:g}, "
        "the lowest finite value",
        ScanWarning,
        stacklevel=3,
    )
    return finite


def _warn_of_odd_values(volume: Volume, path: Path) -> None:
    """Warn if a scan can be read but is probably not usable as it is."""
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        warnings.warn(f"{path}: all voxels are {low:g}; the scan has no content", ScanWarning, stacklevel=3)
    elif volume.padding is None and (odd := detect_padding(volume.array)) is not None:
        value, share, least, greatest = odd
        warnings.warn(
            f"{path}: {share:.0%} of its voxels are {value:g}, the others {least:g}…{greatest:g}. This looks like "
            "padding outside the field of view, which shifts the percentiles of MR. Replace it by the lowest measured "
            "value, or give the DICOM series, whose header defines its padding",
            ScanWarning,
            stacklevel=3,
        )


def _round_labels(array: Array, path: Path) -> Array:
    """Floating-point labels (float32) as int32."""
    cure = "give a label map of integers (one value per organ), saved without interpolation"
    if not np.isfinite(array).all():
        raise scan_error(path, "is given as labels but holds NaN or infinite values", cure)
    rounded = np.rint(array)
    off = np.abs(array - rounded) > INTEGER_TOLERANCE
    if off.any():
        value = float(array[off].flat[0])
        raise scan_error(
            path, f"is given as labels but holds {int(off.sum())} values that are not integers ({value:g})", cure
        )
    if np.abs(rounded).max() > EXACT_IN_FLOAT32:
        raise scan_error(path, f"is given as labels but holds values above {EXACT_IN_FLOAT32}", cure)
    return rounded.astype(np.int32)


def _smallest_type(low: int, high: int) -> np.dtype[np.generic]:
    kinds = (np.uint8, np.uint16, np.uint32, np.uint64) if low >= 0 else (np.int8, np.int16, np.int32, np.int64)
    return np.dtype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
