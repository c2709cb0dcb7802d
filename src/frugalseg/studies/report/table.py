"""A table of a report, independent of its output format, together with its figures in full precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Rank = Literal["", "best", "second"]
NO_VALUE = "–"
"""Text of a cell without a value."""


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: its text.
        note: a note below it in small print.
        rank: whether it is the best or the second of its column.
    """

    text: str
    note: str = ""
    rank: Rank = ""


@dataclass(frozen=True)
class Section:
    """Rows under one heading, which may be empty."""

    heading: str
    rows: tuple[tuple[TableCell, ...], ...]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its files, without ending.
        title: above the table.
        words: number of leading columns that hold words; the others hold numbers.
        spans: headings that span several number columns, with their number of columns; may be empty.
        columns: headings of all columns.
        sections: the rows, each with one cell per column.
        notes: sentences below the table.
        data: the same figures and more in full precision, one row per figure.
    """

    name: str
    title: str
    words: int
    spans: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    data: pd.DataFrame

    def __post_init__(self) -> None:
        rows = [row for section in self.sections for row in section.rows]
        if any(len(row) != len(self.columns) for row in rows):
            raise ValueError(f"{self.name}: rows of another width than the {len(self.columns)} headings")
        if self.spans and sum(width for _, width in self.spans) != len(self.columns) - self.words:
            raise ValueError(f"{self.name}: {self.spans} do not span the number columns")


def rank_column(values: Sequence[float], digits: int, sign: int, fit: Sequence[bool]) -> list[Rank]:
    """The best and the second-best values of a column.

    Values that are printed alike have the same rank. Nothing is ranked if all competing values are equal or neither
    direction is better.

    Args:
        values: of the rows; NaN if undefined.
        digits: decimals in print.
        sign: +1 if higher is better, -1 if lower is better, 0 if neither is.
        fit: which rows compete.
    """
    shown = [
        round(value, digits) * sign if competes and not math.isnan(value) else None
        for value, competes in zip(values, fit, strict=True)
    ]
    competing = [value for value in shown if value is not None]
    order = sorted(set(competing), reverse=True)
    if sign == 0 or len(order) < 2:
        return [""] * len(shown)
    return ["best" if value == order[0] else "second" if value == order[1] else "" for value in shown]
