"""The table of metrics: one entry holds everything that evaluations, their reports and studies need of a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from frugalseg.evaluation.mask_pair import MaskPair
from frugalseg.evaluation.policy import (
    ALWAYS,
    DIFFERENCE,
    DISTANCE,
    OVERLAP,
    SHARE_OF_REFERENCE,
    EmptyMaskRules,
    Outcome,
    Rule,
)
from frugalseg.evaluation.statistics import Range
from frugalseg.plugins import Registry

SHARE: Range = (0.0, 1.0)
FROM_ZERO: Range = (0.0, math.inf)


class Better(IntEnum):
    """Which direction of a metric is better; as a number, the sign of an improvement."""

    HIGHER = 1
    LOWER = -1
    NEITHER = 0


class Place(IntEnum):
    """The most prominent place that shows a metric; all places with a lower number show it too."""

    CASES = 0
    """`cases.csv` and `cases.json`."""
    SUMMARY = 1
    """The means of `summary.json`, and the report's table of standard deviations and ranges."""
    STUDIES = 2
    """The tables of a study."""
    REPORT = 3
    """The table of means at the head of the report of an evaluation."""
    HEADLINE = 4
    """The headline figures in the terminal and in reports; in studies the main tables and the comparisons."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: its name in files.
        heading: its name in tables.
        function: computes it, where its rules do not set its value.
        rules: its value where a mask is empty (see `policy`).
        description: its definition.
        unit: "mm", "ml", or empty.
        digits: decimals in tables.
        better: which direction is better.
        scale: its minimum and maximum.
        physical: whether it needs the true voxel spacing.
        place: the most prominent place that shows it.
        tolerance: whether it depends on the tolerance of the surface Dice, which reports then print beside it.
    """

    key: str
    heading: str
    function: Callable[[MaskPair], float]
    rules: EmptyMaskRules
    description: str
    unit: str = ""
    digits: int = 3
    better: Better = Better.HIGHER
    scale: Range = SHARE
    physical: bool = False
    place: Place = Place.REPORT
    tolerance: bool = False

    @property
    def title(self) -> str:
        """Heading with unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    @property
    def headline(self) -> bool:
        """Whether it is one of the headline figures."""
        return self.place is Place.HEADLINE

    @property
    def scale_of_differences(self) -> Range:
        """The minimum and maximum of the difference of two values."""
        low, high = self.scale
        return low - high, high - low

    def value(self, pair: MaskPair) -> float:
        """The value for two masks; NaN where the rules leave it out."""
        rule = self.rules.rule_for(pair.outcome)
        if rule is Rule.COMPUTED:
            return self.function(pair)
        if rule is Rule.DIAGONAL:
            return pair.diagonal_mm
        return 0.0 if rule is Rule.ZERO else math.nan


def dice(pair: MaskPair) -> float:
    """2TP / (2TP + FP + FN), 0…1."""
    return 2 * pair.in_both / (pair.in_reference + pair.in_prediction)


def nsd(pair: MaskPair) -> float:
    """Share of both surfaces within the tolerance of the other one, 0…1."""
    return pair.distances.surface_dice(pair.tolerance)


def hd95_mm(pair: MaskPair) -> float:
    """The larger of the two directed 95th percentiles, mm."""
    return pair.distances.hausdorff(95.0)


def hd_mm(pair: MaskPair) -> float:
    """The largest distance from one surface to the other, mm."""
    return pair.distances.hausdorff()


def assd_mm(pair: MaskPair) -> float:
    """Mean distance over the points of both surfaces, mm."""
    return pair.distances.average()


def volume_reference_ml(pair: MaskPair) -> float:
    """Volume of the reference, ml."""
    return pair.in_reference * pair.voxel_ml


def volume_prediction_ml(pair: MaskPair) -> float:
    """Volume of the prediction, ml."""
    return pair.in_prediction * pair.voxel_ml


def volume_error_ml(pair: MaskPair) -> float:
    """Predicted minus reference volume, ml."""
    return (pair.in_prediction - pair.in_reference) * pair.voxel_ml


def volume_error_relative(pair: MaskPair) -> float:
    """Predicted minus reference volume, as a share of the reference volume."""
    return (pair.in_prediction - pair.in_reference) / pair.in_reference


def false_positive_ml(pair: MaskPair) -> float:
    """Volume predicted outside the reference, ml."""
    return (pair.in_prediction - pair.in_both) * pair.voxel_ml


DICE = Metric(
    key="dice",
    heading="Dice",
    function=dice,
    rules=OVERLAP,
    description="Dice, 2TP / (2TP + FP + FN), per scan",
    place=Place.HEADLINE,
)
"""The metric that selects models, orders cases and is drawn in charts."""
NSD = Metric(
    key="nsd",
    heading="NSD",
    function=nsd,
    rules=OVERLAP,
    description="normalised surface Dice: share of both surfaces within the tolerance of the other surface",
    physical=True,  # its tolerance is in mm
    tolerance=True,
)
HD95 = Metric(
    key="hd95_mm",
    heading="HD95",
    function=hd95_mm,
    rules=DISTANCE,
    description="95% Hausdorff distance, mm: the larger of the two directed 95th percentiles",
    unit="mm",
    digits=1,
    better=Better.LOWER,
    scale=FROM_ZERO,
    physical=True,
    place=Place.HEADLINE,
)

OWN_METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        DICE,
        NSD,
        HD95,
        Metric(
            key="hd_mm",
            heading="HD",
            function=hd_mm,
            rules=DISTANCE,
            description="Hausdorff distance, mm: the largest distance from one surface to the other, both ways",
            unit="mm",
            digits=1,
            better=Better.LOWER,
            scale=FROM_ZERO,
            physical=True,
            place=Place.STUDIES,
        ),
        Metric(
            key="assd_mm",
            heading="ASSD",
            function=assd_mm,
            rules=DISTANCE,
            description="average symmetric surface distance, mm: mean over the points of both surfaces",
            unit="mm",
            digits=2,
            better=Better.LOWER,
            scale=FROM_ZERO,
            physical=True,
        ),
        Metric(
            key="volume_reference_ml",
            heading="Reference",
            function=volume_reference_ml,
            rules=ALWAYS,
            description="volume of the reference, ml",
            unit="ml",
            digits=1,
            better=Better.NEITHER,
            scale=FROM_ZERO,
            physical=True,
            place=Place.CASES,
        ),
        Metric(
            key="volume_prediction_ml",
            heading="Prediction",
            function=volume_prediction_ml,
            rules=ALWAYS,
            description="volume of the prediction, ml",
            unit="ml",
            digits=1,
            better=Better.NEITHER,
            scale=FROM_ZERO,
            physical=True,
            place=Place.CASES,
        ),
        Metric(
            key="volume_error_ml",
            heading="Volume error",
            function=volume_error_ml,
            rules=DIFFERENCE,
            description="predicted minus reference volume, ml",
            unit="ml",
            digits=1,
            better=Better.NEITHER,
            scale=(-math.inf, math.inf),
            physical=True,
        ),
        Metric(
            key="volume_error_relative",
            heading="Relative volume error",
            function=volume_error_relative,
            rules=SHARE_OF_REFERENCE,
            description="predicted minus reference volume, as a share of the reference volume",
            better=Better.NEITHER,
            scale=(-1.0, math.inf),
            place=Place.SUMMARY,
        ),
        Metric(
            key="false_positive_ml",
            heading="False positive",
            function=false_positive_ml,
            rules=ALWAYS,
            description="volume predicted outside the reference, ml",
            unit="ml",
            digits=1,
            better=Better.LOWER,
            scale=FROM_ZERO,
            physical=True,
            place=Place.CASES,
        ),
    )
}
"""Key → metric, in the order of files and tables. A metric added here appears in all of them."""

METRICS = Registry("METRICS", Metric, OWN_METRICS)
"""These, then those of plug-ins, whose name is their key."""


def list_metrics(place: Place) -> tuple[Metric, ...]:
    """The metrics that are shown at a place."""
    return tuple(metric for metric in METRICS.values() if metric.place >= place)


def group_by_rules(metrics: Iterable[Metric]) -> dict[EmptyMaskRules, list[Metric]]:
    """Rules for empty masks → the metrics that have them."""
    groups: dict[EmptyMaskRules, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.rules, []).append(metric)
    return groups


def build_policy_table() -> dict[str, dict[str, str]]:
    """Outcome → metric → rule as plain text, for JSON."""
    metrics = list_metrics(Place.SUMMARY)
    return {outcome.value: {m.key: m.rules.rule_for(outcome).value for m in metrics} for outcome in Outcome}
