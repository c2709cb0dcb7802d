"""How far each carried slice can be relied on, and which ones a person should look at."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from frugalseg.engine.files import atomic_write
from frugalseg.sam.carried import Carried


@dataclass(frozen=True)
class Row:
    """One object in one slice.

    Attributes:
        slice_: counted from 0 at the inferior end; "slice" in the file.
        organ: its name.
        source: annotated, carried, or ended (the object was carried up to here, and is no more).
        annotated_at: the annotated slices it was carried from.
        distance_mm: to the nearest of them.
        area_mm2: of its mask.
        score, agreement, change: see `Carried`.
        confidence: 0…1, the least of them; 1 where annotated.
        review: whether a person should look at it.
    """

    slice_: int
    organ: str
    source: str
    annotated_at: str
    distance_mm: float
    area_mm2: float
    score: float
    agreement: float
    change: float
    confidence: float
    review: bool


def judge(
    carried: Carried, organs: Sequence[str], annotated_at: Mapping[int, Sequence[int]], thickness_mm: float,
    pixel_mm2: float, review_below: float,
) -> list[Row]:
    """The rows of one slice, of the objects that were carried towards it."""
    return []


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """As CSV, whole or not at all."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name.rstrip("_") for field in fields(Row)])
        writer.writerows(list(asdict(row).values()) for row in rows)


def to_review(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Organ → the slices that a person should look at."""
    listed: dict[str, list[int]] = {}
    for row in rows:
        if row.review:
            listed.setdefault(row.organ, []).append(row.slice_)
    return listed
