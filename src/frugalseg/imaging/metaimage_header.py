"""Headers of MetaImage files (.mha, .mhd), checked before ITK reads them.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation
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
from frugalseg.imaging.plausibility import require_plausible
from frugalseg.imaging.validation import scan_error

BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
"""Element type → bytes per value. MET_LONG has 8 on some systems; 4 is its minimum."""

MOST_AXES = 5

VECTORS = {
    name: power
    for power, names in {
        1: ("Offset", "Position", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize"),
        2: ("TransformMatrix", "Rotation", "Orientation"),
    }.items()
    for name in names
}
"""Key → p, if its value consists of (number of axes)ᵖ numbers."""

COUNTS = ("NDims", "HeaderSize", "ElementNumberOfChannels", "CompressedDataSize", "CompressionLevel", "ElementNBits")
BOOLEANS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
REQUIRED_FIELDS = ("NDims", "DimSize", "ElementType", "ElementDataFile")

_LINE = re.compile(r"\s*(?P<key>[A-Za-z][\w ./-]{0,99}?)\s*=\s*(?P<value>.*?)\s*")
_LONGEST_VALUE = 4000


def check_metaimage_header(path: Path) -> None:
    """Raise `ScanError` unless the header of a `.mha` or `.mhd` file is valid and its claimed size is plausible."""
    fields, start = _read_fields(path)
    if missing := [key for key in REQUIRED_FIELDS if key not in fields]:
        raise header_error(path, f"{missing[0]} is missing")
    axes = parse_integers(path, "NDims", fields["NDims"], 1)[0]
    shape = parse_integers(path, "DimSize", fields["DimSize"], axes)
    _check_values(path, fields, axes)
    kind = fields["ElementType"]
    if kind not in BYTES:
        raise header_error(path, f"ElementType is {quote(kind)}, expected one of {', '.join(BYTES)}")
    channels = parse_integers(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)[0]
    if not 1 <= channels <= 1000:
        raise header_error(path, f"ElementNumberOfChannels is {channels}")
    _check_size(path, fields, start, shape, BYTES[kind] * channels)


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Key → value of the header lines, and the byte offset at which the voxels begin."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            line = read_line(path, file)
            if line is None:
                break
            if not line.strip():
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                if not fields:
                    raise scan_error(path, "cannot be read: it is not a MetaImage file")
                raise header_error(path, f"the line {quote(line)} is not of the form 'key = value'")
            key, value = match["key"], match["value"]
            if key in fields:
                raise header_error(path, f"{key} occurs twice")
            if key != "NDims" and key in (*VECTORS, "DimSize") and "NDims" not in fields:
                raise header_error(path, f"{key} occurs before NDims")
            if len(value) > _LONGEST_VALUE:
                raise header_error(path, f"the value of {key} is longer than {_LONGEST_VALUE} bytes")
            fields[key] = value
            if key == "NDims" and not 1 <= parse_integers(path, key, value, 1)[0] <= MOST_AXES:
                raise header_error(path, f"NDims is {quote(value)}, expected 3")
            if key == "ElementDataFile":
                return fields, file.tell()
    if not fields:
        raise scan_error(path, "cannot be read: it is not a MetaImage file")
    raise header_error(path, "ElementDataFile is missing")


def _check_values(path: Path, fields: dict[str, str], axes: int) -> None:
    for key, power in VECTORS.items():
        if key in fields:
            parse_numbers(path, key, fields[key], axes**power)
    for key in COUNTS:
        if key in fields:
            parse_integers(path, key, fields[key], 1)
    for key in BOOLEANS:
        if key in fields and fields[key] not in ("True", "False", "1", "0"):
            raise header_error(path, f"{key} is {quote(fields[key])}, expected True or False")
    if fields.get("ObjectType", "Image") != "Image":
        raise header_error(path, f"ObjectType is {quote(fields['ObjectType'])}, expected Image")


def _check_size(path: Path, fields: dict[str, str], start: int, shape: tuple[int, ...], voxel_bytes: int) -> None:
    name = fields["ElementDataFile"]
    skipped = parse_integers(path, "HeaderSize", fields.get("HeaderSize", "0"), 1)[0]
    if name in ("LOCAL", "Local", "local"):
        stored = path.stat().st_size - start
    else:
        stored = find_data_file(path, name).stat().st_size
    if skipped < -1 or skipped > stored:
        raise header_error(path, f"HeaderSize is {skipped}")
    stored -= max(0, skipped)
    packed = parse_integers(path, "CompressedDataSize", fields.get("CompressedDataSize", "0"), 1)[0]
    if not 0 <= packed <= stored:
        raise header_error(path, f"CompressedDataSize is {packed}, the file holds {stored} bytes of voxels")
    if fields.get("CompressedData") in ("True", "1"):
        packing = "gzip"
    else:
        packing = "text" if fields.get("BinaryData") in ("False", "0") else "raw"
    require_plausible(path, shape, voxel_bytes, stored, packing)
