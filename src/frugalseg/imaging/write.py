"""Write masks in the grid and the file type of their scan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from frugalseg.engine.files import temporary_name
from frugalseg.errors import DiskError, ScanError, disk_errors
from frugalseg.imaging.formats import ITK, NIFTI, scan_suffix
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Volume

_MASK_SUFFIXES = {".mhd": ".mha", ".nhdr": ".nrrd", ".seg.nrrd": ".nrrd"} | dict.fromkeys(
    (".nii.bz2", ".mgz", ".mgh"), ".nii.gz"
)
"""Scan suffix → mask suffix, where they differ: one file, of a type that every viewer opens."""


def mask_path(folder: Path, case: str, source: Path) -> Path:
    """The file for the mask of a case, with the suffix of its scan or that of `_MASK_SUFFIXES`; `.nii.gz` for DICOM."""
    suffix = scan_suffix(source) or ".nii.gz"
    return folder / f"{case}{_MASK_SUFFIXES.get(suffix, suffix)}"


def write_mask(volume: Volume, path: Path) -> None:
    """Write a mask atomically, with exactly its grid and the placement of its scan, compressed if the format allows.

    Args:
        volume: label values 0…65535; stored as uint8, or as uint16 if a value exceeds 255.
        path: `.nii`, `.nii.gz`, `.nrrd` or `.mha`; its folder is created if it is missing.

    Raises:
        ScanError: a value is negative or above 65535, the format is unknown, or it cannot hold the grid.
        DiskError: the disk is full or the folder cannot be written.
        TypeError: the array does not hold integers.
    """
    mask = volume.with_array(_to_mask_dtype(volume, path))
    suffix = scan_suffix(path)
    if suffix not in (*NIFTI, *ITK) or suffix in (".mhd", ".nhdr"):
        raise scan_error(path, "is not a file type for masks", "name it .nii.gz, .nii, .nrrd or .mha")
    with _replace_when_written(path, suffix) as temporary:
        if suffix in NIFTI:
            _save_nifti(mask, temporary)
        else:
            _save_itk(mask, path, temporary)


def _to_mask_dtype(volume: Volume, path: Path) -> Array:
    array = volume.array
    if array.dtype.kind not in "biu":
        raise TypeError(f"a mask holds integers, not {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ScanError(
            f"{path} would hold label values {low}…{high}, masks hold 0…65535",
            "number the organs in --target within that range",
        )
    return array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16, copy=False)


@contextmanager
def _replace_when_written(path: Path, suffix: str) -> Iterator[Path]:
    """A temporary file beside `path` with the same suffix, renamed to `path` on success."""
    temporary = temporary_name(path, suffix)
    with disk_errors(path):
        try:
            # Created here first: the libraries report an unwritable folder poorly.
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _save_nifti(mask: Volume, temporary: Path) -> None:
    import nibabel as nib

    from frugalseg.imaging.nifti import to_nifti_image

    nib.save(to_nifti_image(mask), temporary)


def _save_itk(mask: Volume, path: Path, temporary: Path) -> None:
    """Write with SimpleITK and read back: it reports neither a full disk nor a grid that the format cannot hold."""
    import SimpleITK  # only where it is needed: it takes half a second

    from frugalseg.imaging.itk import load_itk, to_itk_image

    try:
        SimpleITK.WriteImage(to_itk_image(mask), str(temporary), useCompression=True)
        back = load_itk(temporary)
    except (RuntimeError, ScanError) as error:
        raise DiskError(
            f"{path} could not be written completely", "check the free space, or choose another --out"
        ) from error
    if not np.array_equal(back.array, mask.array):
        raise DiskError(f"{path} was not written correctly", "check the disk, or choose another --out")
    if not back.same_grid(mask):
        raise scan_error(
            path,
            f"cannot hold this grid ({mask.describe_grid()}; sheared axes?)",
            "convert the scan to .nii.gz: its mask is then a .nii.gz too, which can hold any grid",
        )
