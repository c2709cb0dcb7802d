"""Headers of NIfTI files, checked before nibabel reads them.

Format: https://nifti.nimh.nih.gov/nifti-1 and https://nifti.nimh.nih.gov/nifti-2
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import IO, cast

from nibabel.nifti1 import data_type_codes

from frugalseg.imaging.header_text import header_error
from frugalseg.imaging.plausibility import LARGEST_RATIO, require_plausible

LAYOUTS = {348: ("8h", 40, "h", 70, "f", 108), 540: ("8q", 16, "h", 12, "q", 168)}
"""sizeof_hdr → format and byte offset of dim, datatype and vox_offset."""

MOST_EXTENDED = 1 << 26
"""Largest number of bytes before the voxels; extensions are short texts, sometimes a DICOM header."""

_GZIP = b"\x1f\x8b"


def check_nifti_header(path: Path) -> None:
    """Raise `ScanError` if dimensions, data type or extensions of a `.nii` or `.nii.gz` file are impossible.

    A file that does not begin like NIfTI, or whose compression is damaged, is refused by the reader later.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
    stored = path.stat().st_size
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            _check_header(path, cast(IO[bytes], file), stored, "gzip" if packed else "raw")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return


def _check_header(path: Path, file: IO[bytes], stored: int, packing: str) -> None:
    head = file.read(544)
    order, layout = next(
        ((o, LAYOUTS[n]) for o in "<>" for n in LAYOUTS if head[:4] == struct.pack(f"{o}i", n)), ("", None)
    )
    if layout is None or len(head) < 352:
        return
    dims, code, offset = (
        struct.unpack_from(order + form, head, place) for form, place in zip(layout[::2], layout[1::2], strict=True)
    )
    axes = [int(d) for d in dims[1 : 1 + int(dims[0])]]
    if not 1 <= dims[0] <= 7 or any(axis < 1 for axis in axes):
        raise header_error(path, f"dim is {list(dims)}, expected three sizes above 0")
    if code[0] not in data_type_codes.dtype or not data_type_codes.dtype[code[0]].itemsize:
        raise header_error(path, f"datatype is {code[0]}, expected one of integers or real numbers")
    begin = offset[0]
    if not 0 <= begin <= min(stored * LARGEST_RATIO[packing], MOST_EXTENDED):
        raise header_error(path, f"vox_offset is {begin}")
    size = 352 if layout is LAYOUTS[348] else 544
    if len(head) >= size and head[size - 4] and begin > size:
        _check_extensions(path, file, order, size, int(begin))
    kept = stored - int(begin) if packing == "raw" else stored
    require_plausible(path, axes, data_type_codes.dtype[code[0]].itemsize, kept, packing)


def _check_extensions(path: Path, file: IO[bytes], order: str, here: int, end: int) -> None:
    """Raise `ScanError` unless the sizes of the extensions fit between `here` and the voxels at `end`."""
    file.seek(here)
    while end - here >= 16:
        words = file.read(8)
        if len(words) < 8:
            return  # the reader reports the truncated file
        size = struct.unpack(f"{order}i", words[:4])[0]
        if not 8 <= size <= end - here:
            raise header_error(path, f"an extension claims {size} bytes")
        here += size
        file.seek(here)
