"""Subgroups of patients in summary.json of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "not shown", "too few patients"]


@dataclass(frozen=True, kw_only=True)
class SubgroupMean:
    """One metric of one organ in one group of patients.

    Attributes:
        column: of the table, such as scanner.
        group: value of this column that the patients have in common.
        organ, metric: what is averaged.
        n: patients with a value.
        mean: over these patients; None where there are none.
        ci95: limits of the 95% interval of the mean, where there is one.
        ci95_kind: kind of interval and number of patients, or why there is none.
    """

    column: str
    group: str
    organ: str
    metric: str
    n: int
    mean: float | None
    ci95: tuple[float, float] | None
    ci95_kind: str


@dataclass(frozen=True, kw_only=True)
class SubgroupDifference:
    """The difference of two groups of patients in one metric of one organ.

    Attributes:
        column: of the table.
        first, second: the groups.
        organ, metric: what is compared.
        n_first, n_second: patients with a value.
        difference: mean of the second minus mean of the first; None where one has no value.
        ci95: limits of its 95% interval (Welch), where there is one.
        ci95_kind: kind of interval and number of patients, or why there is none.
        p: of the two-sided Mann-Whitney test; None where there is nothing to test.
        p_holm: corrected by Holm's method over all differences of the evaluation.
        verdict: whether the difference is supported.
    """

    column: str
    first: str
    second: str
    organ: str
    metric: str
    n_first: int
    n_second: int
    difference: float | None
    ci95: tuple[float, float] | None
    ci95_kind: str
    p: float | None
    p_holm: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """Groups of the patients of an evaluation, by the columns of a table.

    Attributes:
        table: the file.
        scans: the group of scans of `SummaryRecord.groups` that is divided.
        patients: their number.
        left_out: column → why it is not used.
        without_value: column → patients that have no value in it.
        rule: how intervals, tests and verdicts are computed.
        means: column by column.
        differences: of every two groups of a column.
    """

    table: str
    scans: str
    patients: int
    left_out: dict[str, str]
    without_value: dict[str, int]
    rule: str
    means: tuple[SubgroupMean, ...]
    differences: tuple[SubgroupDifference, ...]
