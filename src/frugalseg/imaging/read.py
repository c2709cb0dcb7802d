"""Reading a scan or a mask, whatever its format."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import ITK, NIFTI, SUFFIXES, is_dicom, suffix
from frugalseg.imaging.volume import Volume


class ScanWarning(UserWarning):
    """Something in a scan was mended while reading."""


def read_volume(path: Path) -> Volume:
    """Read one scan: NIfTI, NRRD, MetaImage, a folder with a DICOM series, or one DICOM file.

    Stored integers keep their type, everything else is float32. Voxels that are no number or infinite become the
    lowest finite value, with a `ScanWarning`.

    Raises:
        ScanError: missing, damaged, of unknown format, not one 3D volume, or without any finite voxel.
    """
    volume = _read(path)
    kind = volume.array.dtype.kind
    if kind in "iub":
        return volume.with_array(volume.array.astype(volume.array.dtype.newbyteorder("="), copy=False))
    if kind != "f":
        raise ScanError(
            f"{path} holds {volume.array.dtype} voxels (colours or complex numbers), expected one number a voxel",
            "export it as a greyscale volume",
        )
    array = volume.array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if finite.all():
        return volume.with_array(array)
    if not finite.any():
        raise ScanError(f"{path} holds no finite voxel", "export it again")
    lowest = array[finite].min()
    warnings.warn(
        f"{path}: {array.size - int(finite.sum())} voxels are NaN or infinite; they are read as {lowest:g}",
        ScanWarning,
        stacklevel=2,
    )
    return volume.with_array(np.where(finite, array, lowest))


def read_labels(path: Path) -> Volume:
    """Read one mask, in the smallest integer type that holds its values.

    Raises:
        ScanError: as `read_volume`, and where a value is not an integer.
    """
    volume = _read(path)
    array = volume.array
    if array.dtype.kind not in "iubf" or (array.dtype.kind == "f" and not (np.mod(array, 1) == 0).all()):
        raise ScanError(
            f"{path} holds values that are not integers, so it is no label map",
            "give the mask, not the image; threshold probabilities first",
        )
    low, high = array.min(), array.max()
    smallest = np.result_type(np.min_scalar_type(int(low)), np.min_scalar_type(int(high)))
    return volume.with_array(array.astype(smallest))


def _read(path: Path) -> Volume:
    if not path.exists():
        raise ScanError(f"{path} is not there", "check the path")
    ending = suffix(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ScanError(f"{path} is empty (0 bytes)", "copy or export it again")
    # Each library is imported where it is needed: together they take half a second.
    if ending in NIFTI:
        from frugalseg.imaging.nifti import read_nifti

        return read_nifti(path)
    if ending in ITK:
        from frugalseg.imaging.itk import read_itk

        return read_itk(path)
    if path.is_dir() or is_dicom(path):
        from frugalseg.imaging.dicom import read_dicom

        return read_dicom(path)
    raise ScanError(
        f"{path} is of no known format", f"give {', '.join(SUFFIXES)}, or a folder with the files of a DICOM series"
    )
