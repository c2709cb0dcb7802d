"""What a metric is worth where a mask is empty. Pure data, written into every result file.

A missed organ must never improve a mean, and a scan without the organ must not be a free 1.0. So: an organ in
neither mask is left out and counted; a missed organ costs the worst there is (Dice 0, distances the diagonal of the
image); an organ found where there is none has Dice and surface Dice 0 by their formulas, its volume is reported, and
its distances do not exist (there is no reference surface): left out and counted.
"""

from __future__ import annotations

import math
from enum import Enum

METRICS = {
    "dice": "Dice, 2TP / (2TP + FP + FN), one a scan",
    "nsd": "normalised surface Dice: share of both surfaces within the tolerance of the other surface",
    "hd95_mm": "95% Hausdorff distance, mm: the larger of the two directed 95th percentiles",
    "hd_mm": "Hausdorff distance, mm: the largest distance from one surface to the other, both ways",
    "assd_mm": "average symmetric surface distance, mm: mean over the points of both surfaces",
    "volume_error_ml": "predicted minus reference volume, ml",
    "volume_error_relative": "predicted minus reference volume, as a share of the reference volume",
}
"""Every metric of a scan and an organ, and what it means."""

RANGES = {
    "dice": (0.0, 1.0),
    "nsd": (0.0, 1.0),
    "hd95_mm": (0.0, math.inf),
    "hd_mm": (0.0, math.inf),
    "assd_mm": (0.0, math.inf),
    "volume_error_ml": (-math.inf, math.inf),
    "volume_error_relative": (-1.0, math.inf),
}
"""Metric → its least and greatest value."""


class Outcome(str, Enum):
    """Which of the two masks holds the organ."""

    BOTH = "both"
    MISSED = "missed"
    FALSE_POSITIVE = "false_positive"
    BOTH_EMPTY = "both_empty"

    @classmethod
    def of(cls, in_reference: bool, in_prediction: bool) -> Outcome:
        """The outcome, from whether either mask has any voxel."""
        if in_reference:
            return cls.BOTH if in_prediction else cls.MISSED
        return cls.FALSE_POSITIVE if in_prediction else cls.BOTH_EMPTY


class Rule(str, Enum):
    """Where a metric's value comes from."""

    COMPUTED = "computed"
    ZERO = "0"
    DIAGONAL = "image diagonal in mm"
    LEFT_OUT = "left out (NaN), counted"


def _rules(overlap: Rule, distance: Rule, volume: Rule, relative: Rule) -> dict[str, Rule]:
    return {
        "dice": overlap,
        "nsd": overlap,
        "hd95_mm": distance,
        "hd_mm": distance,
        "assd_mm": distance,
        "volume_error_ml": volume,
        "volume_error_relative": relative,
    }


EMPTY_MASK_POLICY: dict[Outcome, dict[str, Rule]] = {
    Outcome.BOTH: _rules(Rule.COMPUTED, Rule.COMPUTED, Rule.COMPUTED, Rule.COMPUTED),
    Outcome.MISSED: _rules(Rule.ZERO, Rule.DIAGONAL, Rule.COMPUTED, Rule.COMPUTED),
    Outcome.FALSE_POSITIVE: _rules(Rule.ZERO, Rule.LEFT_OUT, Rule.COMPUTED, Rule.LEFT_OUT),
    Outcome.BOTH_EMPTY: _rules(Rule.LEFT_OUT, Rule.LEFT_OUT, Rule.LEFT_OUT, Rule.LEFT_OUT),
}
"""Outcome → metric → rule."""

OUTCOMES = {
    Outcome.BOTH: "organ in both masks",
    Outcome.MISSED: "organ in the reference, not in the prediction",
    Outcome.FALSE_POSITIVE: "organ in the prediction, not in the reference",
    Outcome.BOTH_EMPTY: "organ in neither mask",
}
"""Outcomes in words."""


def policy_table() -> dict[str, dict[str, str]]:
    """`EMPTY_MASK_POLICY` as plain text, for JSON."""
    return {o.value: {m: rule.value for m, rule in rules.items()} for o, rules in EMPTY_MASK_POLICY.items()}


def policy_line() -> str:
    """`EMPTY_MASK_POLICY` in one line, for a column of a table."""
    return "; ".join(
        f"{outcome.value}: dice {rules['dice'].value}, distances {rules['hd_mm'].value}"
        for outcome, rules in EMPTY_MASK_POLICY.items()
        if outcome is not Outcome.BOTH
    )
