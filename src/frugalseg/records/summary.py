"""summary.json and cases.json of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from msgspec import UNSET, UnsetType

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.record import Converters, Record
from frugalseg.records.subgroups import Subgroups


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric over the scans of a group; None where a number is not defined.

    Attributes:
        n: number of scans with a value.
        left_out: number of scans without one.
        mean, sd, median, minimum, maximum: over the n values.
        ci95: limits of the 95% interval of the mean, where there is one.
        ci95_kind: kind of interval and number of scans, or why there is none.
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
class LesionPool:
    """Lesion-wise detection over all lesions of a group's scans; None where a number is not defined.

    Attributes:
        reference, prediction: number of lesions in the masks.
        found: pairs of a lesion in the reference and one in the prediction.
        f1, sensitivity, precision: of all lesions together.
        false_positives_per_scan: mean number of predicted lesions without a partner.
    """

    reference: int
    prediction: int
    found: int
    f1: float | None
    sensitivity: float | None
    precision: float | None
    false_positives_per_scan: float | None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One line of a Bland–Altman plot, ml, with its 95% interval; None where there is none."""

    ml: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class VolumeAgreement:
    """Bland and Altman's agreement of predicted and reference volumes.

    Attributes:
        n: scans in which either mask shows the organ.
        bias: mean of predicted minus reference volume.
        sd_ml: standard deviation of these differences.
        lower, upper: 95% limits of agreement.
    """

    n: int
    bias: Limit
    sd_ml: float | None
    lower: Limit
    upper: Limit


@dataclass(frozen=True, kw_only=True)
class OrganSummary:
    """One organ in a group.

    Attributes:
        counts: outcome → number of scans.
        missed: case ids where only the reference shows the organ.
        false_positive_ml: case id where only the prediction shows the organ → its volume, ml.
        both_empty: case ids where neither mask shows the organ.
        metrics: metric → its figures.
        slicewise_mean_over_scans, slicewise_mean_over_slices: figures of the slice-wise metrics, with --slicewise.
        lesions_mean_over_scans, lesions_pooled: figures of the lesion-wise metrics, with --lesions.
        volume_agreement: agreement of the volumes; missing in older files.
    """

    counts: dict[str, int]
    missed: tuple[str, ...]
    false_positive_ml: dict[str, float]
    both_empty: tuple[str, ...]
    metrics: dict[str, MetricSummary]
    slicewise_mean_over_scans: dict[str, MetricSummary] | UnsetType = UNSET
    slicewise_mean_over_slices: dict[str, float | None] | UnsetType = UNSET
    lesions_mean_over_scans: dict[str, MetricSummary] | UnsetType = UNSET
    lesions_pooled: LesionPool | UnsetType = UNSET
    volume_agreement: VolumeAgreement | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """Scans that are summarised together.

    Attributes:
        meaning: what they have in common.
        scans: their number.
        cases: their case ids.
        organs: organ → its figures.
    """

    meaning: str
    scans: int
    cases: tuple[str, ...]
    organs: dict[str, OrganSummary]


@dataclass(frozen=True, kw_only=True)
class EvaluationState(Record):
    """The part of summary.json that a study reads again.

    Attributes:
        complete: whether all masks could be compared.
        annotated_slices_left_out: case id → manually annotated slices, which were excluded.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete it, and evaluate again (a study does this automatically)"

    complete: bool
    annotated_slices_left_out: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SummaryRecord(EvaluationState):
    """summary.json.

    Attributes:
        headline: group whose means are the result; None where the model has seen every scan.
        groups: group → its figures.
        not_predicted: case id → why it could not be segmented.
        no_reference: case ids of predictions without a reference.
        broken: case id → why its masks could not be compared.
        targets: organ → label values.
        tolerance_mm: tolerance of the surface Dice, mm.
        interval: how confidence intervals were computed.
        empty_mask_policy: outcome → metric → rule.
        metrics: metric → description.
        options: options of the evaluation.
        versions: package → version.
        date: time of the evaluation, ISO 8601.
        subgroups: groups of patients compared, with --groups.
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
    subgroups: Subgroups | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class CasesRecord(Record):
    """cases.json: the metrics of every scan and organ; see `SummaryRecord`.

    Attributes:
        cases: one per scan and organ: column of cases.csv → value; None where it is not defined.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    OLDER: ClassVar[Converters] = {0: lambda content: content}

    tolerance_mm: float
    empty_mask_policy: dict[str, dict[str, str]]
    targets: dict[str, tuple[int, ...]]
    metrics: dict[str, str]
    cases: tuple[dict[str, str | int | float | None], ...]
