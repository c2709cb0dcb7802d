"""Which check a scan file's header goes through before a library sees it."""

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
"""Suffix → its check; formats that are not named have none."""


def check_header(path: Path, suffix: str | None) -> None:
    """Raise `ScanError` where a file's header is damaged, or claims what its file or the memory cannot hold.

    Args:
        path: the file; it is there and not empty.
        suffix: what `formats.scan_suffix` says of it.
    """
    if suffix in CHECKS:
        CHECKS[suffix](path)
