"""Headers of NRRD files (.nrrd, .nhdr), checked before ITK reads them.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
from pathlib import Path

from frugalseg.imaging.header_text import (
    MOST_LINES,
    find_data_file,
    header_error,
    parse_integers,
    parse_numbers,
    quote,
    read_line,
)
from frugalseg.imaging.plausibility import LARGEST_RATIO, require_plausible
from frugalseg.imaging.validation import scan_error

BYTES = {
    name: size
    for size, names in {
        1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
        2: "short, short int, signed short, signed short int, int16, int16_t, "
        "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
        8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
        "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
    }.items()
    for name in names.split(", ")
}
"""Type name → bytes per value."""

PACKING = {
    "raw": "raw",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "other",
    "bzip2": "other",
}
"""Encoding → packing, as in `plausibility.LARGEST_RATIO`."""

MOST_AXES = 5

SPELLINGS = {
    "centers": "centerings",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "datafile": "data file",
    "blocksize": "block size",
    "oldmin": "old min",
    "oldmax": "old max",
    "sampleunits": "sample units",
}
"""Alternative field name → usual one."""

TEXTS = ("content", "number", "sample units", "space units", "labels", "units", "kinds", "centerings", "space")
FIELDS = {*TEXTS, "dimension", "type", "block size", "encoding", "endian", "min", "max", "old min", "old max"} | {
    *("data file", "line skip", "byte skip", "sizes", "spacings", "thicknesses", "axis mins", "axis maxs"),
    *("space dimension", "space origin", "space directions", "measurement frame"),
}
REQUIRED_FIELDS = ("dimension", "type", "sizes", "encoding")

_MAGIC = re.compile(r"NRRD000[1-5]")
_LONGEST_TEXT = 500
"""Longer values overflow a buffer of NrrdIO when it reports an error about them."""

_FREE_TEXTS = ("content", "sample units")
"""Fields that may contain a percent sign; NrrdIO uses others as a format string when it reports an error."""

_CHUNK_BYTES = 1 << 20
_NOT_NUMBERS = re.compile(rb"[^0-9a-fA-FinIN+.,\s-]+|[^\s,]{64}")
_UNKNOWN = ("nan", "-nan", "none", "???")


def check_nrrd_header(path: Path) -> None:
    """Raise `ScanError` unless the header of a `.nrrd` or `.nhdr` file is valid and its claimed size is plausible."""
    fields, start = _read_fields(path)
    if missing := [key for key in REQUIRED_FIELDS if key not in fields]:
        raise header_error(path, f"{missing[0]} is missing")
    axes = parse_integers(path, "dimension", fields["dimension"], 1)[0]
    if not 1 <= axes <= MOST_AXES:
        raise header_error(path, f"dimension is {axes}, expected 3")
    shape = parse_integers(path, "sizes", fields["sizes"], axes)
    if fields["type"].lower() not in BYTES:
        raise header_error(path, f"type is {quote(fields['type'])}, expected a type of integers or real numbers")
    if fields["encoding"].lower() not in PACKING:
        raise header_error(path, f"encoding is {quote(fields['encoding'])}, expected one of {', '.join(PACKING)}")
    _check_values(path, fields, axes)
    _check_size(path, fields, start, shape)


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Field → value, without key/value pairs and comments, and the byte offset after the header."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        magic = read_line(path, file) if file.read(4) == b"NRRD" else None
        if magic is None or not _MAGIC.fullmatch("NRRD" + magic):
            raise scan_error(path, "cannot be read: it is not an NRRD file")
        for _ in range(MOST_LINES):
            line = read_line(path, file)
            if not line:
                return fields, file.tell()
            if line.startswith("#") or re.match("[^:]*:=", line):
                continue
            name, colon, value = line.partition(": ")
            key = SPELLINGS.get(name.lower(), name.lower())
            if not colon or key not in FIELDS:
                raise header_error(path, f"the line {quote(line)} is not an NRRD field")
            if key in fields:
                raise header_error(path, f"{key} occurs twice")
            if len(value) > _LONGEST_TEXT:
                raise header_error(path, f"{key} is longer than {_LONGEST_TEXT} characters")
            if "%" in value and key not in (*_FREE_TEXTS, "data file"):
                raise header_error(path, f"{key} is {quote(value)}")
            fields[key] = value.strip()
    raise header_error(path, f"it is longer than {MOST_LINES} lines")


def _check_values(path: Path, fields: dict[str, str], axes: int) -> None:
    for key in ("spacings", "thicknesses", "axis mins", "axis maxs"):
        if key in fields:
            words = fields[key].split()
            parse_numbers(path, key, " ".join("0" if word.lower() in _UNKNOWN else word for word in words), axes)
    for key in ("space dimension", "line skip", "byte skip", "block size"):
        if key in fields:
            parse_integers(path, key, fields[key], 1)
    if "space origin" in fields:
        _check_vectors(path, "space origin", fields["space origin"], 1)
    if "space directions" in fields:
        _check_vectors(path, "space directions", fields["space directions"], axes)
    if "measurement frame" in fields:
        _check_vectors(path, "measurement frame", fields["measurement frame"])
    if fields.get("endian", "little").lower() not in ("little", "big"):
        raise header_error(path, f"endian is {quote(fields['endian'])}, expected little or big")


def _check_vectors(path: Path, key: str, text: str, count: int | None = None) -> None:
    """Raise `ScanError` unless `text` is vectors such as `(1,0,0) none (0,0,2.5)`, all of one length up to 3."""
    found = re.findall(r"\([^()]*\)|none", text)
    lengths = {len(parse_numbers(path, key, one[1:-1].replace(",", " "))) for one in found if one != "none"}
    rest = re.sub(r"\([^()]*\)|none|\s", "", text)
    if rest or count not in (None, len(found)) or not lengths or len(lengths) > 1 or not 1 <= max(lengths) <= 3:
        raise header_error(path, f"{key} is {quote(text)}, expected vectors such as (1,0,0)")


def _check_size(path: Path, fields: dict[str, str], start: int, shape: tuple[int, ...]) -> None:
    data = path
    if "data file" in fields:
        data, start = find_data_file(path, fields["data file"]), 0
    stored = data.stat().st_size - start
    lines, skipped = (parse_integers(path, key, fields.get(key, "0"), 1)[0] for key in ("line skip", "byte skip"))
    if not 0 <= lines <= stored or skipped < -1 or skipped > stored * LARGEST_RATIO["gzip"]:
        raise header_error(
            path, f"line skip is {lines}, byte skip is {skipped}, the file holds {stored} bytes of voxels"
        )
    packing = PACKING[fields["encoding"].lower()]
    require_plausible(path, shape, BYTES[fields["type"].lower()], stored, packing)
    if packing == "text":
        _check_text_voxels(path, data, start)


def _check_text_voxels(path: Path, data: Path, start: int) -> None:
    """Raise `ScanError` for text voxels that are not numbers: NrrdIO copies an unreadable word into a small buffer."""
    with data.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES) + file.readline(_CHUNK_BYTES):
            if wrong := _NOT_NUMBERS.search(chunk):
                raise header_error(path, f"its voxels hold {wrong.group()[:20]!r}, expected numbers")
