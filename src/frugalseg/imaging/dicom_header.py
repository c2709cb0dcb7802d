"""Refuses deflated DICOM files that may need more memory than is free."""

from __future__ import annotations

from pathlib import Path

from frugalseg.engine.host_memory import free_host_memory
from frugalseg.imaging.plausibility import LARGEST_RATIO
from frugalseg.imaging.validation import scan_error

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax of files whose whole data set is deflated."""

_HEAD_BYTES = 2048


def check_dicom_header(path: Path) -> None:
    """Raise `ScanError` if a deflated file may need more memory than is free: pydicom inflates it in one step."""
    with path.open("rb") as file:
        if DEFLATED not in file.read(_HEAD_BYTES):
            return
    most, free = path.stat().st_size * LARGEST_RATIO["gzip"], free_host_memory()
    if most > free:
        raise scan_error(
            path,
            f"is deflated and may inflate to {most / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are free",
            "store it without compression, or convert the series with dcm2niix and give the NIfTI file",
        )
