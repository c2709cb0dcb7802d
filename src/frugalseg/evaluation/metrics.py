"""How well one predicted organ fits its reference: overlap, distances in mm, volumes in ml."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.evaluation.policy import EMPTY_MASK_POLICY, Outcome, Rule
from frugalseg.evaluation.surface import Mask, SurfaceDistances, bounding_box, image_diagonal

DEFAULT_TOLERANCE_MM = 3.0


@dataclass(frozen=True)
class OrganMetrics:
    """One organ of one scan.

    NaN means left out by the empty-mask policy (`policy.EMPTY_MASK_POLICY`), never "could not be computed".

    Attributes:
        outcome: which of the masks holds the organ.
        dice: 0…1.
        nsd: normalised surface Dice at the tolerance asked for, 0…1.
        hd95_mm, hd_mm, assd_mm: surface distances.
        volume_reference_ml, volume_prediction_ml: volumes.
        volume_error_ml: prediction minus reference.
        volume_error_relative: the same as a share of the reference.
        false_positive_ml: volume predicted outside the reference.
    """

    outcome: Outcome
    dice: float
    nsd: float
    hd95_mm: float
    hd_mm: float
    assd_mm: float
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_error_ml: float
    volume_error_relative: float
    false_positive_ml: float

    def to_dict(self) -> dict[str, Any]:
        """As a flat record; the outcome as its text."""
        return asdict(self) | {"outcome": self.outcome.value}


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
    if reference.shape != prediction.shape or reference.dtype != bool or prediction.dtype != bool:
        raise ValueError(
            f"expected two bool masks of one shape, got {reference.dtype} {reference.shape} "
            f"and {prediction.dtype} {prediction.shape}"
        )
    to_mm = np.asarray(affine, dtype=np.float64)[:3, :3]
    # Everything outside the box around both masks is background in both, and changes no count and no surface.
    box = bounding_box(reference | prediction) or (slice(0, 0),) * reference.ndim
    a, b = reference[box], prediction[box]
    in_a, in_b, in_both = (int(np.count_nonzero(m)) for m in (a, b, a & b))
    ml = abs(float(np.linalg.det(to_mm))) / 1000.0
    outcome = Outcome.of(in_a > 0, in_b > 0)
    computed: dict[str, float] = {"volume_error_ml": (in_b - in_a) * ml}
    if in_a:
        computed["volume_error_relative"] = (in_b - in_a) / in_a
    if outcome is Outcome.BOTH:
        computed["dice"] = 2 * in_both / (in_a + in_b)
        computed |= _distances(SurfaceDistances.between(a, b, to_mm, workers), tolerance)
    return OrganMetrics(
        outcome=outcome,
        volume_reference_ml=in_a * ml,
        volume_prediction_ml=in_b * ml,
        false_positive_ml=(in_b - in_both) * ml,
        **{m: _value(r, computed.get(m), reference.shape, to_mm) for m, r in EMPTY_MASK_POLICY[outcome].items()},
    )


def _distances(distances: SurfaceDistances, tolerance: float) -> dict[str, float]:
    return {
        "nsd": distances.surface_dice(tolerance),
        "hd95_mm": distances.hausdorff(95.0),
        "hd_mm": distances.hausdorff(),
        "assd_mm": distances.average(),
    }


def _value(rule: Rule, computed: float | None, shape: tuple[int, ...], to_mm: npt.NDArray[np.float64]) -> float:
    if rule is Rule.COMPUTED:
        assert computed is not None
        return computed
    if rule is Rule.DIAGONAL:
        return image_diagonal(shape, to_mm)
    return 0.0 if rule is Rule.ZERO else float("nan")
