"""Shared by the readers of all formats: error messages, checks, and conversion to working data types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import ACCEPTED_FORMATS
from frugalseg.imaging.volume import Array, format_shape

PAIR_CURE = "convert it to .nii.gz: Analyze does not define left and right, and one file of a pair is easily lost"

COPY_AGAIN = "copy or export the file again, or remove it"


class ScanWarning(UserWarning):
    """A scan was read, but something in it was corrected or had to be assumed."""


def scan_error(path: Path, what: str, cure: str = COPY_AGAIN) -> ScanError:
    """The error for a file that cannot be read; `what` continues a sentence that begins with its name."""
    return ScanError(f"{path} {what}", cure)


def unknown_format(path: Path) -> ScanError:
    """The error for a file of an unsupported format."""
    if path.suffix.lower() in (".hdr", ".img"):
        return scan_error(path, "is an Analyze file or half of a NIfTI pair", PAIR_CURE)
    return scan_error(path, "is not of a known format", f"give a scan: {ACCEPTED_FORMATS}")


def require_file(path: Path) -> None:
    """Raise `ScanError` unless `path` is a readable file that is not empty."""
    if not path.exists():
        raise scan_error(path, "does not exist", "check the path")
    if not path.is_file():
        raise scan_error(path, "is a folder, expected a file", "give the scan file itself")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise scan_error(path, f"cannot be opened ({error.strerror})", "check its permissions") from error
    if empty:
        raise scan_error(path, "is empty (0 bytes)")


def require_3d(path: Path, shape: Sequence[int]) -> tuple[int, int, int]:
    """The three axes of a stored shape, without axes of length 1 after the third; `ScanError` for anything else."""
    short = tuple(int(n) for n in shape)
    while len(short) > 3 and short[-1] == 1:
        short = short[:-1]
    if len(short) == 3:
        return short[0], short[1], short[2]
    size = format_shape(shape)
    if len(short) < 3:
        raise scan_error(
            path,
            f"has {len(short)} dimensions ({size}), expected one 3D volume",
            "give the whole scan as one 3D file, not single slices",
        )
    raise scan_error(
        path,
        f"has {len(short)} dimensions ({size}), expected one 3D volume",
        "split the series into its volumes first and give one file per volume",
    )


def require_real_numbers(path: Path, dtype: np.dtype[np.generic]) -> None:
    """Raise `ScanError` unless voxels are real numbers (not RGB, not complex)."""
    if dtype.fields is not None:
        raise scan_error(path, "holds colours (RGB), expected one value per voxel", "export grey values")
    if dtype.kind not in "biuf":
        kind = "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"
        raise scan_error(path, f"holds {kind}, expected real ones", "export the magnitude image")


def to_working_dtype(array: Array) -> Array:
    """Integers in native byte order, floating-point numbers as float32, booleans as uint8; copied only if needed."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
