"""NIfTI files, through nibabel."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from frugalseg.errors import ScanError
from frugalseg.imaging.volume import Array, Volume

_DAMAGE = (
    EOFError,
    OSError,
    ValueError,
    zlib.error,
    gzip.BadGzipFile,
    HeaderDataError,
    WrapStructError,
    ImageFileError,
)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file: stored integers as they are, scaled values as float32; the header's affine as it is.

    Raises:
        ScanError: the file is truncated, no NIfTI, or holds colours or complex numbers.
    """
    try:
        image = nib.load(path)
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        plain = (slope, intercept) == (1.0, 0.0)
        array = np.asarray(image.dataobj) if plain else image.get_fdata(dtype=np.float32)
        affine = np.array(image.affine, dtype=np.float64)
    except _DAMAGE as error:
        raise ScanError(
            f"{path} cannot be read as NIfTI: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "the file is damaged or cut off: copy or export it again",
        ) from error
    return Volume(without_trailing_ones(array), affine, path)


def without_trailing_ones(array: Array) -> Array:
    """A 4D array whose fourth axis is 1, as some tools write, as the 3D array it is."""
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a mask with the volume's affine as sform, and as qform where that can say it."""
    image = nib.Nifti1Image(volume.array, volume.affine)
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    if not np.allclose(image.get_qform(), volume.affine, atol=1e-4):
        image.set_qform(None, code="unknown")  # a sheared affine has no qform; readers then take the sform
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
