"""Shared by the header checks: lines of bounded length, strictly parsed numbers, data files beside the header.

ITK's parsers trust a header: a line longer than a buffer, a huge count or a format string in it crashes or hangs the
process. A header is therefore parsed here first, and ITK reads only those that are valid.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath
from typing import IO

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import NIFTI, scan_suffix
from frugalseg.imaging.validation import scan_error

LONGEST_LINE = 1 << 15
LONGEST_FILE_NAME = 255
MOST_LINES = 1 << 13
LARGEST = 1e12
"""Largest coordinate, spacing or count that a header may hold."""

_INTEGER = re.compile(r"[+-]?\d{1,15}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def header_error(path: Path, what: str) -> ScanError:
    """The error for an invalid header; `what` names the fault."""
    suffix = scan_suffix(path) or ""
    kind = "NIfTI" if suffix in NIFTI else "NRRD" if suffix.endswith(("nrrd", "nhdr")) else "MetaImage"
    return scan_error(path, f"has a damaged {kind} header, or is truncated: {what}")


def read_line(path: Path, file: IO[bytes]) -> str | None:
    """The next line without its line break; None after the last.

    Raises:
        ScanError: it is longer than `LONGEST_LINE`, or contains control characters.
    """
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise header_error(path, f"a line is longer than {LONGEST_LINE} bytes")
    if not line:
        return None
    text = line.rstrip(b"\r\n").decode("utf-8", errors="replace")
    if _CONTROL.search(text):
        raise header_error(path, "a line contains bytes that are not text")
    return text


def quote(text: str) -> str:
    """A header value in quotes for messages, shortened if it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "…")


def parse_integers(path: Path, key: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Integers separated by spaces; raises `ScanError` for anything else, or another count."""
    words = text.split()
    if not words or not all(_INTEGER.fullmatch(word) for word in words) or count not in (None, len(words)):
        raise header_error(path, f"{key} is {quote(text)}, expected {count or 'some'} whole numbers")
    return tuple(int(word) for word in words)


def parse_numbers(path: Path, key: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers separated by spaces; raises `ScanError` for anything else, or another count."""
    words = text.split()
    if not all(_NUMBER.fullmatch(word) for word in words) or count not in (None, len(words)):
        raise header_error(path, f"{key} is {quote(text)}, expected {count or 'some'} finite numbers")
    values = tuple(float(word) for word in words)
    if not all(math.isfinite(value) and abs(value) <= LARGEST for value in values):
        raise header_error(path, f"{key} is {quote(text)}, expected numbers up to {LARGEST:g}")
    return values


def find_data_file(header: Path, name: str) -> Path:
    """The file beside a header that holds its voxels.

    Raises:
        ScanError: the name is a pattern, the file is missing, or it lies outside the folder of the header, where a
            header from an unknown source must not point.
    """
    place = PurePosixPath(name.replace("\\", "/"))
    if not name or "%" in name or name.startswith("LIST"):
        raise scan_error(
            header,
            f"stores its voxels in several files ({quote(name)}), expected one",
            "write the scan as one .nrrd, .mha or .nii.gz file",
        )
    if place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", name):
        raise scan_error(
            header,
            f"refers to voxels outside its folder ({quote(name)})",
            "put the data file beside the header and name it without a folder",
        )
    path = header.parent / name
    if len(name) > LONGEST_FILE_NAME or not path.is_file():
        raise scan_error(header, f"lacks its data file {quote(name)}", "put the data file beside the header")
    return path
