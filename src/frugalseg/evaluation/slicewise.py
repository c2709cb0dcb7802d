"""Slice-wise metrics as some papers define them. Optional: only for comparison with published values.

Why they are not the default: slices are not patients (a long scan counts more, and slices of one scan are not
independent); an empty slice scores 1, so the mean depends on how much beyond the organ was scanned; pixels are not
millimetres; and a Hausdorff distance that skips missed organs improves when the model finds less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.statistics import Range
from frugalseg.evaluation.surface import Mask, SurfaceDistances, bounding_box
from frugalseg.imaging.volume import middle_range

POLYCL_MIDDLE = 0.3
"""The share of slices around the middle of a scan that PolyCL (arXiv 2505.19208) and SAM-Mix test on."""


@dataclass(frozen=True)
class SliceMetric:
    """One slice-wise metric.

    Attributes:
        description: its definition.
        weight: the column of `SliceMetrics` with the number of its slices, the weight of a scan when pooling.
        scale: its minimum and maximum.
    """

    description: str
    weight: str
    scale: Range = (0.0, 1.0)


SLICE_METRICS = {
    "dice_slice_smooth1": SliceMetric(
        "mean over all axial slices of (2TP + 1) / (2TP + FP + FN + 1); an empty slice counts 1", "slices"
    ),
    "dice_slice_smooth1_middle30": SliceMetric(
        "the same over the middle 30% of the slices only, as in PolyCL", "slices_middle30"
    ),
    "hd_slice_px": SliceMetric(
        "mean over axial slices of the Hausdorff distance in pixels; slices where either mask is empty are skipped, "
        "so a missed organ is not penalised",
        "slices_hd",
        (0.0, math.inf),
    ),
    "slice_precision": SliceMetric("share of slices predicted to hold the organ that do hold it", "slices_prediction"),
    "slice_recall": SliceMetric("share of slices holding the organ that are predicted to hold it", "slices_reference"),
}
"""Every slice-wise metric of `SliceMetrics`."""


@dataclass(frozen=True)
class SliceMetrics:
    """The slice-wise metrics of one organ of one scan (see `SLICE_METRICS`); NaN where no slice counts.

    Attributes:
        slices, slices_middle30, slices_hd: number of slices of the three means.
        slices_both, slices_reference, slices_prediction: slices that hold the organ in both masks, in the reference,
            in the prediction.
    """

    dice_slice_smooth1: float
    dice_slice_smooth1_middle30: float
    hd_slice_px: float
    slice_precision: float
    slice_recall: float
    slices: int
    slices_middle30: int
    slices_hd: int
    slices_both: int
    slices_reference: int
    slices_prediction: int

    def to_dict(self) -> dict[str, float]:
        """The values as column → value."""
        return asdict(self)


def dice_slice_smooth1(reference: Mask, prediction: Mask) -> npt.NDArray[np.float64]:
    """Dice of every slice with 1 added to numerator and denominator, as in the code of PolyCL and MultiMix.

    Two empty masks give 1; one stray pixel on an empty slice gives 0.5; a missed organ of n pixels 1 / (n + 1).

    Args:
        reference: bool, (Z, H, W).
        prediction: bool, same shape.

    Returns:
        (Z,)
    """
    both, in_reference, in_prediction = (
        np.count_nonzero(m, axis=(1, 2)) for m in (reference & prediction, reference, prediction)
    )
    dice: npt.NDArray[np.float64] = (2 * both + 1) / (in_reference + in_prediction + 1)
    return dice


def hd_slice_px(reference: Mask, prediction: Mask) -> npt.NDArray[np.float64]:
    """Hausdorff distance of every slice in pixels of the scan, between edge pixels.

    As in PolyCL, slices where the organ is missing in either mask are skipped. Unlike PolyCL's code it measures in both
    directions, on the binary mask instead of a contour at 0.9 of the probabilities, and on the scan's own pixels
    instead of 256×256, and does not truncate decimals: those are errors, not conventions.

    Args:
        reference: bool, (Z, H, W).
        prediction: bool, same shape.

    Returns:
        (Z,), NaN for skipped slices.
    """
    distances = np.full(len(reference), np.nan)
    for z in np.flatnonzero(reference.any(axis=(1, 2)) & prediction.any(axis=(1, 2))):
        box = bounding_box(reference[z] | prediction[z])
        a, b = reference[z][box], prediction[z][box]
        distances[z] = SurfaceDistances.between(a, b, np.eye(2), workers=1).hausdorff()
    return distances


def compare_slices(reference: Mask, prediction: Mask) -> SliceMetrics:
    """All slice-wise metrics of one organ of one scan.

    Args:
        reference: bool, (Z, H, W): a stack of axial slices.
        prediction: bool, same shape.
    """
    dice = dice_slice_smooth1(reference, prediction)
    middle = dice[middle_range(len(dice), POLYCL_MIDDLE)]
    hd = hd_slice_px(reference, prediction)
    hd = hd[~np.isnan(hd)]
    in_reference, in_prediction = reference.any(axis=(1, 2)), prediction.any(axis=(1, 2))
    n_both, n_reference, n_prediction = (
        int(np.count_nonzero(slices)) for slices in (in_reference & in_prediction, in_reference, in_prediction)
    )
    return SliceMetrics(
        dice_slice_smooth1=float(dice.mean()),
        dice_slice_smooth1_middle30=float(middle.mean()),
        hd_slice_px=float(hd.mean()) if hd.size else float("nan"),
        slice_precision=n_both / n_prediction if n_prediction else float("nan"),
        slice_recall=n_both / n_reference if n_reference else float("nan"),
        slices=len(dice),
        slices_middle30=len(middle),
        slices_hd=int(hd.size),
        slices_both=n_both,
        slices_reference=n_reference,
        slices_prediction=n_prediction,
    )


def pool_slices(rows: Sequence[CaseRow]) -> dict[str, float]:
    """Each metric averaged over all slices of all scans, as in the papers; NaN where no slice counts."""
    pooled = {}
    for name, metric in SLICE_METRICS.items():
        pairs = [(r[name], r[metric.weight]) for r in rows if r[metric.weight]]
        pooled[name] = sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else float("nan")
    return pooled
