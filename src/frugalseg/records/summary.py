"""summary.json and cases.json of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from msgspec import UNSET, UnsetType

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.record import Record


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric over the scans of a group; None where there is no such number.

    Attributes:
        n: scans that have a value.
        left_out: scans without one.
        mean, sd, median, minimum, maximum: over the n values.
        ci95: limits of the 95% interval of the mean, where it has one.
        ci95_kind: which kind of interval and over how many scans, or why there is none.
    """

    n: int
    left_out: int
    mean: float | None
    sd: float | None
    median: float | None
    minimum: float | None
    maximum: float | None
    ci95: tuple[float, float] | None
    ci95_kind: str | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class OrganSummary:
    """One organ in a group.

    Attributes:
        counts: outcome → scans.
        missed: cases in whose prediction the organ is missing.
        false_positive_ml: case without the organ → volume predicted there, ml.
        both_empty: cases with the organ in neither mask.
        metrics: metric → its figures.
        slicewise_mean_over_scans, slicewise_mean_over_slices: the same slice-wise, where that was asked for.
    """

    counts: dict[str, int]
    missed: tuple[str, ...]
    false_positive_ml: dict[str, float]
    both_empty: tuple[str, ...]
    metrics: dict[str, MetricSummary]
    slicewise_mean_over_scans: dict[str, MetricSummary] | UnsetType = UNSET
    slicewise_mean_over_slices: dict[str, float | None] | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """The scans whose means may be taken together.

    Attributes:
        meaning: what they have in common.
        scans: their number.
        cases: their ids.
        organs: organ → its figures.
    """

    meaning: str
    scans: int
    cases: tuple[str, ...]
    organs: dict[str, OrganSummary]


@dataclass(frozen=True, kw_only=True)
class EvaluationState(Record):
    """What of summary.json a study reads again.

    Attributes:
        complete: whether all masks could be compared.
        annotated_slices_left_out: case → slices that were left out because a person had annotated them.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete it, and evaluate again (a study does so by itself)"

    complete: bool
    annotated_slices_left_out: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SummaryRecord(EvaluationState):
    """summary.json.

    Attributes:
        headline: the group whose means are the result; None where every scan was seen before.
        groups: group → its figures.
        not_predicted: case → why it could not be segmented.
        no_reference: predictions that nothing can be compared with.
        broken: case → why its masks could not be compared.
        targets: organ → label values.
        tolerance_mm: of the surface Dice.
        interval: how the intervals were computed.
        empty_mask_policy: outcome → metric → rule.
        metrics: metric → what it is.
        options: of the evaluation.
        versions: package → version.
        date: of the evaluation, ISO 8601.
    """

    headline: str | None
    groups: dict[str, GroupSummary]
    not_predicted: dict[str, str]
    no_reference: tuple[str, ...]
    broken: dict[str, str]
    targets: dict[str, tuple[int, ...]]
    tolerance_mm: float
    interval: str
    empty_mask_policy: dict[str, dict[str, str]]
    metrics: dict[str, str]
    options: dict[str, object]
    versions: dict[str, str]
    date: str


@dataclass(frozen=True, kw_only=True)
class CasesRecord(Record):
    """cases.json: every scan and organ, with what their figures mean; see `SummaryRecord`.

    Attributes:
        cases: one a scan and organ: column of cases.csv → value, None where it does not exist.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    OLDER: ClassVar = {0: lambda content: content}

    tolerance_mm: float
    empty_mask_policy: dict[str, dict[str, str]]
    targets: dict[str, tuple[int, ...]]
    metrics: dict[str, str]
    cases: tuple[dict[str, str | int | float | None], ...]
