"""Lesion-wise detection: which connected parts of the reference the prediction found, and which it made up.

For targets of which a scan may show several, such as tumours. Dice hardly notices a small lesion that was missed
beside a large one that was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.statistics import Range
from frugalseg.evaluation.surface import Mask, bounding_box
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import LesionPool

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner belong to one lesion (26 neighbours)."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LesionMetric:
    """One lesion-wise metric.

    Attributes:
        description: its definition.
        scale: its minimum and maximum.
        heading: its name in tables.
        digits: decimals in tables.
    """

    description: str
    scale: Range
    heading: str
    digits: int = 3


LESION_METRICS = {
    "lesion_f1": LesionMetric(
        "2TP / (2TP + FP + FN) of lesions, the recognition quality of panoptic segmentation; 0 where only one of the "
        "masks holds lesions, left out where neither does",
        (0.0, 1.0),
        "F1",
    ),
    "lesion_sensitivity": LesionMetric(
        "share of the reference's lesions that were found; left out where there are none", (0.0, 1.0), "Sensitivity"
    ),
    "lesion_precision": LesionMetric(
        "share of the predicted lesions that are one; left out where none was predicted", (0.0, 1.0), "Precision"
    ),
    "lesion_false_positives": LesionMetric(
        "number of predicted lesions that are none; counted in every scan", (0.0, math.inf), "False positives", 1
    ),
}
"""Every lesion-wise metric of `LesionMetrics`."""


@dataclass(frozen=True)
class LesionMetrics:
    """The lesion-wise metrics of one target of one scan (see `LESION_METRICS`); NaN where they are left out.

    Attributes:
        lesions_reference, lesions_prediction: number of lesions in each mask.
        lesions_found: pairs of a lesion in the reference and one in the prediction.
    """

    lesion_f1: float
    lesion_sensitivity: float
    lesion_precision: float
    lesion_false_positives: int
    lesions_reference: int
    lesions_prediction: int
    lesions_found: int

    def to_dict(self) -> dict[str, float]:
        """The values as column → value."""
        return asdict(self)


def compare_lesions(reference: Mask, prediction: Mask, threshold: float) -> LesionMetrics:
    """Pair the lesions of two masks, and count pairs and what is left over.

    A lesion is a connected part of a mask, with 26 neighbours. Two lesions may be a pair if their IoU is above the
    threshold. Above 0.5 a lesion can have one partner only (Kirillov et al. 2019, Panoptic Segmentation,
    arXiv:1801.00868); for lower thresholds the pairs are the one-to-one assignment with the largest sum of IoU. So a
    lesion that was predicted in two pieces is at best one pair and one false positive, and two lesions that the
    prediction joins are at best one pair and one that was missed.

    Args:
        reference: bool, (X, Y, Z).
        prediction: bool, same shape and grid.
        threshold: IoU that a pair exceeds, 0…1.
    """
    box = bounding_box(reference | prediction) or (slice(0, 0),) * reference.ndim
    (a, in_reference), (b, in_prediction) = (ndimage.label(mask[box], TOUCHING) for mask in (reference, prediction))
    found = _count_pairs(_overlaps(a, b, in_reference, in_prediction), threshold)
    return count_lesions(in_reference, in_prediction, found)


def count_lesions(in_reference: int, in_prediction: int, found: int) -> LesionMetrics:
    """The metrics of so many lesions, of one scan or of several together."""
    total = in_reference + in_prediction
    return LesionMetrics(
        lesion_f1=2 * found / total if total else math.nan,
        lesion_sensitivity=found / in_reference if in_reference else math.nan,
        lesion_precision=found / in_prediction if in_prediction else math.nan,
        lesion_false_positives=in_prediction - found,
        lesions_reference=in_reference,
        lesions_prediction=in_prediction,
        lesions_found=found,
    )


def _overlaps(
    a: npt.NDArray[np.int32], b: npt.NDArray[np.int32], in_a: int, in_b: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Of every two lesions that share a voxel: the numbers of both, and their IoU; each (pairs,)."""
    both = (a > 0) & (b > 0)
    codes, shared = np.unique(a[both].astype(np.int64) * (in_b + 1) + b[both], return_counts=True)
    first, second = (codes // (in_b + 1)).astype(np.intp), (codes % (in_b + 1)).astype(np.intp)
    sizes_a, sizes_b = np.bincount(a.ravel(), minlength=in_a + 1), np.bincount(b.ravel(), minlength=in_b + 1)
    return first, second, shared / (sizes_a[first] + sizes_b[second] - shared)


def _count_pairs(overlaps: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats], threshold: float) -> int:
    first, second, iou = (part[overlaps[2] > threshold] for part in overlaps)
    if threshold >= 0.5 or not iou.size:
        return int(iou.size)
    # Only lesions that may have a partner are rows and columns: noise has thousands of parts.
    rows, columns = (np.unique(part, return_inverse=True)[1] for part in (first, second))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    table[rows, columns] = iou
    chosen = optimize.linear_sum_assignment(table, maximize=True)
    return int(np.count_nonzero(table[chosen]))


def pool_lesions(rows: Sequence[CaseRow]) -> LesionPool:
    """The metrics of all lesions of all scans together, as if they were in one scan."""
    counts = (sum(int(row[name]) for row in rows) for name in _COUNTS)
    pooled = count_lesions(*counts)
    return LesionPool(
        reference=pooled.lesions_reference,
        prediction=pooled.lesions_prediction,
        found=pooled.lesions_found,
        f1=finite_or_none(pooled.lesion_f1),
        sensitivity=finite_or_none(pooled.lesion_sensitivity),
        precision=finite_or_none(pooled.lesion_precision),
        false_positives_per_scan=pooled.lesion_false_positives / len(rows) if rows else None,
    )


_COUNTS = ("lesions_reference", "lesions_prediction", "lesions_found")
