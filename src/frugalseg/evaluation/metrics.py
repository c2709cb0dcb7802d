"""All metrics of one predicted organ against its reference: overlap, distances in mm, volumes in ml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.evaluation.mask_pair import MaskPair
from frugalseg.evaluation.metric_table import METRICS
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.surface import Mask

DEFAULT_TOLERANCE_MM = 3.0


@dataclass(frozen=True)
class OrganMetrics:
    """One organ of one scan.

    Attributes:
        outcome: which of the masks holds the organ.
        values: metric → value, in the order of `metric_table.METRICS`. NaN means left out by the metric's rules for
            empty masks, never "could not be computed".
    """

    outcome: Outcome
    values: Mapping[str, float]


def organ_mask(labels: npt.NDArray[Any], values: tuple[int, ...]) -> Mask:
    """Where `labels` has one of `values`; bool, same shape. Quicker than `np.isin` for a handful of values."""
    mask: Mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask


def compare(
    reference: Mask,
    prediction: Mask,
    affine: npt.NDArray[np.float64],
    tolerance: float = DEFAULT_TOLERANCE_MM,
    workers: int = -1,
) -> OrganMetrics:
    """Measure one organ on the grid of the scan.

    Args:
        reference: bool, (X, Y, Z).
        prediction: bool, same shape and grid.
        affine: 4×4, voxel index → mm; may be oblique or sheared.
        tolerance: of the normalised surface Dice, mm.
        workers: threads of the distance search; -1 takes all cores.

    Raises:
        ValueError: the shapes differ, or a mask is not bool.
    """
    pair = MaskPair.from_masks(reference, prediction, affine, tolerance, workers)
    return OrganMetrics(pair.outcome, {key: metric.value(pair) for key, metric in METRICS.items()})
