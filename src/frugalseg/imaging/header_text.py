"""What the checks of headers share: lines of bounded length, numbers that are numbers, data files that lie beside.

ITK's parsers trust a header: lines longer than their buffers, counts they allocate by, and formats they print with end
or hang the process. So a header is read here first, and only what is plain goes on to ITK.
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
"""No coordinate, spacing or count in a header is larger."""

_INTEGER = re.compile(r"[+-]?\d{1,15}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def header_error(path: Path, what: str) -> ScanError:
    """The error for a header that says something impossible."""
    suffix = scan_suffix(path) or ""
    kind = "NIfTI" if suffix in NIFTI else "NRRD" if suffix.endswith(("nrrd", "nhdr")) else "MetaImage"
    return scan_error(path, f"has a damaged {kind} header, or is cut short: {what}")


def read_line(path: Path, file: IO[bytes]) -> str | None:
    """The next line without its end; None after the last.

    Raises:
        ScanError: it is too long for a header, or holds bytes that are no text.
    """
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise header_error(path, f"a line is longer than {LONGEST_LINE} bytes")
    if not line:
        return None
    text = line.rstrip(b"\r\n").decode("utf-8", errors="replace")
    if _CONTROL.search(text):
        raise header_error(path, "a line holds bytes that are no text")
    return text


def quote(text: str) -> str:
    """A value of a header for a message, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "…")


def parse_integers(path: Path, key: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers between spaces; raises `ScanError` for anything else, or another count."""
    words = text.split()
    if not words or not all(_INTEGER.fullmatch(word) for word in words) or count not in (None, len(words)):
        raise header_error(path, f"{key} is {quote(text)}, expected {count or 'some'} whole numbers")
    return tuple(int(word) for word in words)


def parse_numbers(path: Path, key: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers between spaces; raises `ScanError` for anything else, or another count."""
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
        ScanError: it is a pattern, or not there; or it lies outside of the header's folder, from where a header that
            somebody sent has nothing to fetch.
    """
    place = PurePosixPath(name.replace("\\", "/"))
    if not name or "%" in name or name.startswith("LIST"):
        raise scan_error(
            header,
            f"keeps its voxels in several files ({quote(name)}), expected one",
            "write the scan as one .nrrd, .mha or .nii.gz file",
        )
    if place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", name):
        raise scan_error(
            header,
            f"points to voxels outside of its folder ({quote(name)})",
            "put the data file beside the header and name it without a folder",
        )
    path = header.parent / name
    if len(name) > LONGEST_FILE_NAME or not path.is_file():
        raise scan_error(header, f"lacks its data file {quote(name)}", "put the data file beside the header")
    return path
