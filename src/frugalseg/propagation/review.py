"""How far each propagated slice can be relied on, and which ones a person should look at."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from frugalseg.engine.files import atomic_write
from frugalseg.propagation.passes import Bools, SliceState

ANNOTATED, PROPAGATED, ENDED = "annotated", "propagated", "ended"
"""Where a slice's mask is from; ended: the object was propagated to the slice before, and found no more."""


@dataclass(frozen=True)
class ReviewRow:
    """One object in one slice; the columns of the file.

    Attributes:
        slice: counted from 0 at the inferior end.
        organ: its name.
        source: see `ANNOTATED`.
        propagated_from: the annotated slices it was propagated from.
        distance_mm: to the nearest of them.
        area_mm2: of its mask.
        score, agreement, change: see `SliceState`.
        confidence: 0…1.
        review: why a person should look at it, or nothing.
    """

    slice: int
    organ: str
    source: str
    propagated_from: str
    distance_mm: float
    area_mm2: float
    score: float
    agreement: float
    change: float
    confidence: float
    review: str


def review_slice(
    state: SliceState,
    settled: Bools,
    organs: Sequence[str],
    annotated: Sequence[int],
    before: Bools,
    denied: Bools,
    voxel_mm: tuple[float, float, float],
    review_below: float,
) -> list[ReviewRow]:
    """The rows of one slice.

    Args:
        state: what was believed of it.
        settled: (K, H, W) its masks.
        organs: names of the K objects.
        annotated: the annotated slices it was propagated from; itself, where it is one.
        before: (K,) whether each object is there in the slice before it, on the way from an annotated one.
        denied: (K,) whether the next slice is annotated and lacks the object.
        voxel_mm: between slices, rows and columns.
        review_below: confidence from which on a slice needs no review.
    """
    here = state.z in annotated
    distance = min(abs(state.z - a) for a in annotated) * voxel_mm[0]
    rows = []
    for k, organ in enumerate(organs):
        there = bool(settled[k].any())
        if not there and (here or not before[k]):
            continue
        confidence = 1.0 if here else compute_confidence(state, k)
        why = ""
        if not there:
            why = "the organ seems to end here"
        elif denied[k]:
            why = "the organ is not in the annotated slice next to this one"
        elif confidence < review_below:
            why = f"confidence below {review_below:g}"
        rows.append(
            ReviewRow(
                slice=state.z,
                organ=organ,
                source=ANNOTATED if here else PROPAGATED if there else ENDED,
                propagated_from=" ".join(map(str, annotated)),
                distance_mm=round(distance, 3),
                area_mm2=round(int(np.count_nonzero(settled[k])) * voxel_mm[1] * voxel_mm[2], 2),
                score=round(float(state.score[k]), 3),
                agreement=round(float(state.agreement[k]), 3),
                change=round(float(state.change[k]), 3),
                confidence=round(confidence, 3),
                review=why,
            )
        )
    return rows


def compute_confidence(state: SliceState, k: int) -> float:
    """How far object `k` of a propagated slice can be relied on, 0…1: the product of all that speaks for it."""
    return float(np.clip(state.score[k], 0, 1) * state.agreement[k] * state.change[k])


def write_rows(path: Path, rows: Iterable[ReviewRow]) -> None:
    """As CSV, whole or not at all."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(ReviewRow)])
        writer.writerows(astuple(row) for row in rows)


def slices_to_review(rows: Iterable[ReviewRow]) -> dict[str, list[int]]:
    """Organ → the slices that a person should look at."""
    listed: dict[str, list[int]] = {}
    for row in rows:
        if row.review:
            listed.setdefault(row.organ, []).append(row.slice)
    return listed
