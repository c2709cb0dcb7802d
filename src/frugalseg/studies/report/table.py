"""A table as a person reads it, whatever it is printed as, with its figures in full beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Rank = Literal["", "best", "second"]
GAP = "–"
"""Stands where there is nothing."""


@dataclass(frozen=True)
class Entry:
    """One place of a table.

    Attributes:
        text: what stands there.
        note: what stands below it in small print.
        rank: whether it is the best or the second of its column.
    """

    text: str
    note: str = ""
    rank: Rank = ""


@dataclass(frozen=True)
class Section:
    """Rows under one heading; no heading where it is empty."""

    heading: str
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its files, without ending.
        title: above it.
        words: how many leading columns hold words; the others hold numbers.
        spans: headings over several number columns, with how many each; empty where there are none.
        columns: headings of all columns.
        sections: the rows, as many entries each as there are columns.
        notes: below it.
        data: the same figures and more, in full precision, one row a figure.
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
    """Which values of a column are its best and its second.

    Values equal in print rank alike. Nothing is ranked where all that compete are equal or neither direction is
    better.

    Args:
        values: of the rows; NaN where there is none.
        digits: decimals in print.
        sign: +1 where more is better, -1 where less is, 0 where neither is.
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
