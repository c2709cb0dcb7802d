"""Checks the header of a scan file, by its format, before a library reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from frugalseg.imaging.metaimage_header import check_metaimage_header
from frugalseg.imaging.nifti_header import check_nifti_header
from frugalseg.imaging.nrrd_header import check_nrrd_header

CHECKS: dict[str, Callable[[Path], None]] = {
    ".nii": check_nifti_header,
    ".nii.gz": check_nifti_header,
    ".nrrd": check_nrrd_header,
    ".seg.nrrd": check_nrrd_header,
    ".nhdr": check_nrrd_header,
    ".mha": check_metaimage_header,
    ".mhd": check_metaimage_header,
}
"""Suffix → check; other formats have none."""


def check_header(path: Path, suffix: str | None) -> None:
    """Raise `ScanError` if a header is damaged, or claims more than the file or the memory can hold.

    Args:
        path: an existing file that is not empty.
        suffix: its `formats.scan_suffix`.
    """
    if suffix in CHECKS:
        CHECKS[suffix](path)
