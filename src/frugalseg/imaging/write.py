"""Writing a mask in its scan's own grid and file type."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from frugalseg.errors import disk_errors
from frugalseg.imaging.formats import NIFTI, suffix
from frugalseg.imaging.volume import Volume

ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Formats of two files, and the kin of one file that a mask is written in."""


def mask_path(folder: Path, case: str, source: Path) -> Path:
    """Where the mask of a scan goes: the scan's own file type, and .nii.gz for DICOM."""
    ending = suffix(source) if source.is_file() else None
    return folder / (case + (ONE_FILE.get(ending, ending) if ending else ".nii.gz"))


def write_mask(volume: Volume, path: Path) -> None:
    """Write integer labels to `path` (.nii, .nii.gz, .nrrd, .mha), on the volume's grid; whole or not at all.

    Raises:
        ScanError: the format cannot hold the grid.
        DiskError: the disk is full, or the folder cannot be written.
    """
    low, high = int(volume.array.min()), int(volume.array.max())
    # No smaller than a byte, and no type that NIfTI lacks.
    kind = next(
        t for t in (np.uint8, np.uint16, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max
    )
    mask = volume.with_array(volume.array.astype(kind, copy=False))
    ending = suffix(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with disk_errors(path):
        try:
            if ending in NIFTI:
                from frugalseg.imaging.nifti import write_nifti

                write_nifti(mask, temporary)
            else:
                from frugalseg.imaging.itk import write_itk

                write_itk(mask, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
