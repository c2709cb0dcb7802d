"""Read a scan or a mask from any accepted format."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.imaging.formats import ACCEPTED_FORMATS, ITK, MGH, NIFTI, is_dicom_file, is_dicom_folder, scan_suffix
from frugalseg.imaging.intensity import detect_padding
from frugalseg.imaging.validation import ScanWarning, scan_error, unknown_format
from frugalseg.imaging.volume import TOLERATED, Array, Volume

__all__ = ["ScanWarning", "read_labels", "read_volume"]

INTEGER_TOLERANCE = 1e-3
"""Label values may be this far from an integer: headers with scaling store 5.9999 for 6."""

EXACT_IN_FLOAT32 = 1 << 24


def read_volume(path: Path) -> Volume:
    """Read one scan: a NIfTI, FreeSurfer, NRRD or MetaImage file, a folder of DICOM files, or one DICOM file.

    Returns:
        The scan in the axes of its file. The array keeps the stored integer type where no scaling is stored, and is
        float32 otherwise, always finite; the affine is as stored, oblique and sheared ones too.

    Raises:
        ScanError: the file is missing, damaged, of another format, or not one 3D volume of real numbers.

    Warns:
        ScanWarning: voxels that were NaN or infinite got the lowest finite value of the scan; all voxels hold one
            value; many hold a value far from the others, as padding does; the header leaves doubt where the scan lies,
            or its axes are not at right angles.
    """
    volume = _load_volume(path)
    _warn_of_doubts(volume, path)
    volume = replace(volume, array=_replace_nonfinite(volume.array, path))
    _warn_of_odd_values(volume, path)
    return volume


def read_labels(path: Path) -> Volume:
    """Read one mask of integer labels.

    Returns:
        The mask in the axes of its file, in the smallest integer type that holds its values, unsigned if it can.

    Raises:
        ScanError: as `read_volume`, or a value is NaN, infinite or no integer.
    """
    volume = _load_volume(path)
    if volume.padding is not None:  # padding of a mask kept as DICOM is no organ
        volume.array[volume.array == volume.padding] = 0
        volume = replace(volume, padding=None)
    array = _round_labels(volume.array, path) if volume.array.dtype.kind == "f" else volume.array
    low, high = int(array.min()), int(array.max())
    return replace(volume, array=array.astype(_smallest_type(low, high), copy=False))


def _load_volume(path: Path) -> Volume:
    # A reader is imported when its format turns up: the libraries behind them are slow to import.
    suffix = scan_suffix(path)
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
    """Warn once of all that is doubtful in the place of a scan. Of masks nothing is said: they go by their scan."""
    doubts = list(volume.placement.doubts)
    voxels, mm = volume.corner_offset(volume.straighten())
    if voxels > TOLERATED:
        doubts.append(
            f"has axes that are not at right angles (a tilted gantry?), by {mm:.3g} mm at its end; its masks do too, "
            "but programs that know only right angles (many on ITK, such as 3D Slicer) show both straightened"
        )
    if doubts:
        # Named after this line, whoever reads: so each text is shown once.
        warnings.warn(f"{path} {'; it '.join(doubts)}", ScanWarning, stacklevel=1)


def _replace_nonfinite(array: Array, path: Path) -> Array:
    """`array` without NaN and infinity; changed in place where it has any."""
    if array.dtype.kind != "f":
        return array
    bad = sum(int(np.count_nonzero(~np.isfinite(plane))) for plane in array.T)
    if bad == 0:
        return array
    if bad == array.size:
        raise scan_error(path, "holds no finite value, every voxel is NaN or infinite", "export the scan again")
    lowest = min(float(np.min(plane, initial=np.inf, where=np.isfinite(plane))) for plane in array.T)
    mended = array if array.flags.writeable else array.copy(order="K")
    for plane in mended.T:
        plane[~np.isfinite(plane)] = lowest
    warnings.warn(
        f"{path}: {bad} of {array.size} voxels are NaN or infinite; they are read as {lowest:g}, "
        "the lowest finite value",
        ScanWarning,
        stacklevel=3,
    )
    return mended


def _warn_of_odd_values(volume: Volume, path: Path) -> None:
    """Warn where a scan can be read but hardly be of use."""
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        warnings.warn(f"{path}: every voxel is {low:g}; the scan shows nothing", ScanWarning, stacklevel=3)
    elif volume.padding is None and (odd := detect_padding(volume.array)) is not None:
        value, share, least, greatest = odd
        warnings.warn(
            f"{path}: {share:.0%} of its voxels are {value:g}, the others {least:g}…{greatest:g}. This looks like "
            "padding outside the field of view; it shifts the percentiles of MR. Set it to the lowest real value, "
            "or give the DICOM series, which names its padding",
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
            path, f"is given as labels but holds {int(off.sum())} values that are no integers ({value:g})", cure
        )
    if np.abs(rounded).max() > EXACT_IN_FLOAT32:
        raise scan_error(path, f"is given as labels but holds values beyond {EXACT_IN_FLOAT32}", cure)
    return rounded.astype(np.int32)


def _smallest_type(low: int, high: int) -> np.dtype[np.generic]:
    kinds = (np.uint8, np.uint16, np.uint32, np.uint64) if low >= 0 else (np.int8, np.int16, np.int32, np.int64)
    return np.dtype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
