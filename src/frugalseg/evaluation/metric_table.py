"""Every metric of a scan and an organ: one entry says all that evaluations, their reports and studies need of it."""

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

SHARE: Range = (0.0, 1.0)
FROM_ZERO: Range = (0.0, math.inf)


class Better(IntEnum):
    """Which of two values of a metric is the better one; as a number, the sign of an improvement."""

    HIGHER = 1
    LOWER = -1
    NEITHER = 0


class Place(IntEnum):
    """The most prominent place that shows a metric; those before it show it too."""

    CASES = 0
    """`cases.csv` and `cases.json`."""
    SUMMARY = 1
    """The means of `summary.json`, and the report's table of their spread."""
    STUDIES = 2
    """The tables of a study."""
    REPORT = 3
    """The table of means at the head of the report of an evaluation."""
    HEADLINE = 4
    """The headline figures on the console and in reports; in studies the main tables and the comparisons."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: its name in files.
        heading: its name in tables.
        function: how it is computed where its rules say so.
        rules: its value where a mask is empty (see `policy`).
        description: what it is, in a sentence's part.
        unit: "mm", "ml", or empty where it has none.
        digits: decimals in tables.
        better: which direction is better.
        scale: its least and greatest value.
        physical: whether it means nothing without the true spacing of the voxels.
        place: up to where it is shown.
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
        """The least and the greatest difference of two of its values."""
        low, high = self.scale
        return low - high, high - low

    def value(self, pair: MaskPair) -> float:
        """Its value for two masks; NaN where it is left out by its rules."""
        rule = self.rules.of(pair.outcome)
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
    description="Dice, 2TP / (2TP + FP + FN), one a scan",
    place=Place.HEADLINE,
)
"""The metric that chooses models, orders cases and is drawn in charts."""
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

METRICS: dict[str, Metric] = {
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
"""Key → metric, in the order of files and tables. A metric added here is in all of them."""


def metrics_in(place: Place) -> tuple[Metric, ...]:
    """The metrics that a place shows."""
    return tuple(metric for metric in METRICS.values() if metric.place >= place)


def group_by_rules(metrics: Iterable[Metric]) -> dict[EmptyMaskRules, list[Metric]]:
    """The metrics that have the same rules for empty masks."""
    groups: dict[EmptyMaskRules, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.rules, []).append(metric)
    return groups


def policy_table() -> dict[str, dict[str, str]]:
    """Outcome → metric → rule as plain text, for JSON."""
    metrics = metrics_in(Place.SUMMARY)
    return {outcome.value: {m.key: m.rules.of(outcome).value for m in metrics} for outcome in Outcome}
