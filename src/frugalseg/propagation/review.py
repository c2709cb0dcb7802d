"""Confidence of each propagated slice, and which slices a person should review."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from frugalseg.confidence.assess import assess
from frugalseg.confidence.overlap import Overlap
from frugalseg.confidence.table import format_csv
from frugalseg.masks.components import Bools
from frugalseg.propagation.passes import SliceState
from frugalseg.records.confidence import OrganCalibration, OrganConfidence

ANNOTATED, PROPAGATED, ENDED = "annotated", "propagated", "ended"
"""Source of a slice's mask; ended: the object was propagated to the slice before, but not found in this one."""


@dataclass(frozen=True)
class ReviewRow:
    """One object in one slice; the attributes are the columns of the CSV file.

    Attributes:
        slice: counted from 0 at the inferior end.
        organ: its name.
        source: see `ANNOTATED`.
        propagated_from: the annotated slices it was propagated from.
        distance_mm: to the nearest of them.
        area_mm2: of its mask.
        score, agreement, change: see `SliceState`.
        confidence: 0…1.
        review: why a person should review it; empty where no review is needed.
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
        state: the propagated objects.
        settled: (K, H, W) the final masks.
        organs: names of the K objects.
        annotated: the annotated slices it was propagated from; only itself, if it is annotated.
        before: (K,) whether each object is present in the previous slice of the propagation.
        denied: (K,) whether the next slice is annotated without the object.
        voxel_mm: spacing of slices, rows and columns.
        review_below: slices with a lower confidence need review.
    """
    is_annotated = state.z in annotated
    distance = min(abs(state.z - a) for a in annotated) * voxel_mm[0]
    rows = []
    for k, organ in enumerate(organs):
        present = bool(settled[k].any())
        if not present and (is_annotated or not before[k]):
            continue
        confidence = 1.0 if is_annotated else compute_confidence(state, k)
        reason = ""
        if not present:
            reason = "the organ seems to end here"
        elif denied[k]:
            reason = "the organ is not in the annotated slice next to this one"
        elif confidence < review_below:
            reason = f"confidence below {review_below:g}"
        rows.append(
            ReviewRow(
                slice=state.z,
                organ=organ,
                source=ANNOTATED if is_annotated else PROPAGATED if present else ENDED,
                propagated_from=" ".join(map(str, annotated)),
                distance_mm=round(distance, 3),
                area_mm2=round(int(np.count_nonzero(settled[k])) * voxel_mm[1] * voxel_mm[2], 2),
                score=round(float(state.score[k]), 3),
                agreement=round(float(state.agreement[k]), 3),
                change=round(float(state.change[k]), 3),
                confidence=round(confidence, 3),
                review=reason,
            )
        )
    return rows


def compute_confidence(state: SliceState, k: int) -> float:
    """Confidence in object `k` of a propagated slice, 0…1: the product of score, agreement and change."""
    return float(np.clip(state.score[k], 0, 1) * state.agreement[k] * state.change[k])


def assess_organs(
    rows: Iterable[ReviewRow], calibrations: Mapping[str, OrganCalibration]
) -> dict[str, OrganConfidence]:
    """Organ → the confidence in its propagated slices; without those annotated, which are certain.

    Args:
        rows: of one scan.
        calibrations: organ → its calibration, where there is one.
    """
    of_organ: dict[str, list[ReviewRow]] = {}
    for row in rows:
        if row.source == PROPAGATED:
            of_organ.setdefault(row.organ, []).append(row)
    found = {o: assess(_to_overlap(own), "propagation", calibrations.get(o)) for o, own in of_organ.items()}
    return {organ: own for organ, own in found.items() if own is not None}


def _to_overlap(rows: Sequence[ReviewRow]) -> Overlap:
    pixels, confidence = np.zeros((2, 1 + max(row.slice for row in rows)))
    for row in rows:
        pixels[row.slice], confidence[row.slice] = row.area_mm2, row.confidence
    return Overlap.from_confidence(pixels, confidence)


def format_rows(rows: Iterable[ReviewRow]) -> str:
    """The rows as the content of a CSV file."""
    return format_csv([field.name for field in fields(ReviewRow)], (astuple(row) for row in rows))


def slices_to_review(rows: Iterable[ReviewRow]) -> dict[str, list[int]]:
    """Organ → the slices that a person should review."""
    listed: dict[str, list[int]] = {}
    for row in rows:
        if row.review:
            listed.setdefault(row.organ, []).append(row.slice)
    return listed
