"""The size of scans by their headers, to estimate how much memory they will take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from frugalseg.errors import FrugalsegError
from frugalseg.imaging.formats import ITK, NIFTI, scan_suffix

LONG_WORK = 2_000_000
"""Voxels of all scans from which on work on them takes so long that users want to know its memory before."""
SAMPLED = 3
"""Number of the largest files whose headers are read: they are likely the largest scans."""


def count_voxels(paths: Iterable[Path]) -> int:
    """The number of voxels of the largest scan, by the headers of a few large files; 0 where they do not tell it."""
    largest = sorted(paths, key=_size, reverse=True)[:SAMPLED]
    return max(map(_read_voxels, largest), default=0)


def _size(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _read_voxels(path: Path) -> int:
    """Voxels by the header; 0 for a scan that cannot be read, which is reported when its turn comes."""
    suffix = scan_suffix(path)
    try:
        if path.is_dir():
            from frugalseg.imaging.dicom_series import list_slices

            slices = list_slices(path)
            return sum(math.prod(one.shape) for one in slices)
        from frugalseg.imaging.header import check_header  # imports nibabel, as reading does

        check_header(path, suffix)
        if suffix in NIFTI:
            return _read_nifti(path)
        if suffix in ITK:
            import SimpleITK

            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            return math.prod(reader.GetSize())
    except (FrugalsegError, OSError, RuntimeError, ValueError):
        return 0
    return 0


def _read_nifti(path: Path) -> int:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        return math.prod(nibabel.load(path).shape)
    except ImageFileError:
        return 0
