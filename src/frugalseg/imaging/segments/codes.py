"""Coded terms for organs: what a segment is, in words that every DICOM program knows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.text import name_some

TABLE = Path(__file__).with_name("codes.csv")
"""The terms that frugalseg knows: SNOMED CT codes of DICOM PS3.16. A file of `--segment-codes` has the same columns."""

COLUMNS = ("name", "value", "meaning")
"""The columns that a row must fill; the others are `scheme` (by default SCT), `modifier_value` and `modifier_meaning`
(right, left), `category_value` and `category_meaning` (by default an anatomical structure)."""


@dataclass(frozen=True)
class Code:
    """One coded term: code value, coding scheme, and its meaning in words."""

    value: str
    scheme: str
    meaning: str


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
ORGAN = Code("91772007", "SCT", "Organ")


@dataclass(frozen=True)
class SegmentCode:
    """What a segment is.

    Attributes:
        type: the organ or the finding.
        category: whether it is anatomy or an abnormality.
        modifier: the side, or None.
    """

    type: Code
    category: Code = ANATOMY
    modifier: Code | None = None


SOME_ORGAN = SegmentCode(ORGAN)
"""The generic term."""


def read_codes(own: Path | None = None) -> dict[str, SegmentCode]:
    """Key of an organ's name (see `to_key`) → its code, of the shipped table, and of `own`, which takes precedence.

    Raises:
        OptionError: `own` cannot be read, or a row of it lacks a name, a value or a meaning.
    """
    return _read_table(TABLE) | ({} if own is None else _read_table(own))


def to_key(name: str) -> str:
    """What names are compared by: their words in lower case, in any order; `Kidney_right` equals `right kidney`."""
    return " ".join(sorted(re.split(r"[\s_\-]+", name.strip().lower())))


def find_codes(names: Iterable[str], own: Path | None = None) -> dict[str, SegmentCode]:
    """Organ → its code.

    Raises:
        OptionError: an organ has none: a generic code would say nothing, and a wrong one would mislead.
    """
    table = read_codes(own)
    found = {name: table.get(to_key(name)) for name in names}
    if lacking := [name for name, code in found.items() if code is None]:
        raise OptionError(
            f"DICOM SEG needs a coded term for each organ, and there is none for {name_some(lacking)}",
            f"give --segment-codes FILE, a table with the columns {', '.join(COLUMNS)}; "
            f"for example {lacking[0]},64033007,Kidney",
        )
    return {name: code for name, code in found.items() if code is not None}


def _read_table(path: Path) -> dict[str, SegmentCode]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"--segment-codes {path} cannot be read ({error})", "give a CSV file") from error
    codes = {}
    for number, row in enumerate(rows, start=2):
        if missing := [column for column in COLUMNS if not (row.get(column) or "").strip()]:
            raise OptionError(
                f"--segment-codes {path}, line {number}: {' and '.join(missing)} missing",
                f"fill the columns {', '.join(COLUMNS)} in every line",
            )
        codes[to_key(row["name"])] = _to_code(row)
    return codes


def _to_code(row: Mapping[str, str]) -> SegmentCode:
    scheme = (row.get("scheme") or "").strip() or "SCT"

    def code(prefix: str) -> Code | None:
        value, meaning = ((row.get(f"{prefix}{part}") or "").strip() for part in ("value", "meaning"))
        return Code(value, scheme if not prefix else "SCT", meaning or value) if value else None

    kind = code("")
    assert kind is not None
    return SegmentCode(kind, code("category_") or ANATOMY, code("modifier_"))
