"""Means of groups of patients (scanner, sex, site), and whether groups differ."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import atomic_write
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.group_table import Column, GroupTable
from frugalseg.evaluation.metric_table import Metric, Place, list_metrics
from frugalseg.evaluation.statistics import (
    FEWEST_PATIENTS,
    compare_means,
    describe_interval_rule,
    holm,
    mean_interval,
    mean_without_nan,
    rank_sum_p,
)
from frugalseg.records.record import finite_or_none
from frugalseg.records.subgroups import SubgroupDifference, SubgroupMean, Subgroups, Verdict
from frugalseg.text import pluralize

Floats = npt.NDArray[np.float64]

MEANS_FILE, DIFFERENCES_FILE = "subgroups.csv", "subgroup_differences.csv"

SIGNIFICANT = 0.05


def compare_subgroups(
    rows: Sequence[CaseRow], organs: Sequence[str], table: GroupTable, scans: str, resamples: int, seed: int
) -> Subgroups:
    """Means of the headline metrics in each group, and the differences of every two groups of a column.

    Several scans of a patient are averaged first. Metrics that the empty-mask policy leaves out are left out here too.

    Args:
        rows: of the scans that are divided; others are ignored.
        organs: to compare.
        table: the groups.
        scans: name of the group of scans, for the record.
        resamples, seed: of the intervals of means, see `mean_interval`.
    """
    by_case = {(row.case, row.organ): row for row in rows}
    means: list[SubgroupMean] = []
    differences: list[SubgroupDifference] = []
    for column in table.columns:
        for organ in organs:
            for metric in list_metrics(Place.HEADLINE):
                scores = {
                    group: _score_patients(by_case, table, members, organ, metric.key)
                    for group, members in column.groups.items()
                }
                means += _list_means(column, organ, metric, scores, resamples, seed)
                differences += _list_differences(column, organ, metric, scores)
    return Subgroups(
        table=str(table.path),
        scans=scans,
        patients=len(table.patients),
        left_out=table.left_out,
        without_value={column.name: column.without_value for column in table.columns},
        rule=describe_rule(resamples, seed),
        means=tuple(means),
        differences=tuple(_correct(differences)),
    )


def describe_rule(resamples: int, seed: int) -> str:
    """How the figures are computed, in words."""
    return (
        f"means: {describe_interval_rule('patient', resamples, seed)}; differences: Welch's 95% interval, two-sided "
        "Mann-Whitney test, p corrected by Holm's method over all differences of this evaluation; a difference is "
        f"supported if both groups have {FEWEST_PATIENTS} patients or more, its interval does not contain 0, and the "
        f"corrected p is below {SIGNIFICANT}"
    )


def _score_patients(
    by_case: Mapping[tuple[str, str], CaseRow], table: GroupTable, members: Sequence[str], organ: str, metric: str
) -> Floats:
    """(patients,) the score of each patient who has one: the mean over his scans."""
    scores = []
    for patient in members:
        of_scans = [by_case[case, organ][metric] for case in table.patients[patient] if (case, organ) in by_case]
        scores.append(float(mean_without_nan(np.array(of_scans, np.float64), axis=0)) if of_scans else math.nan)
    found = np.array(scores, np.float64)
    return found[~np.isnan(found)]


def _list_means(
    column: Column, organ: str, metric: Metric, scores: Mapping[str, Floats], resamples: int, seed: int
) -> list[SubgroupMean]:
    made = []
    for group, values in scores.items():
        interval = mean_interval(values, resamples, seed, metric.scale)
        made.append(
            SubgroupMean(
                column=column.name,
                group=group,
                organ=organ,
                metric=metric.key,
                n=values.size,
                mean=float(values.mean()) if values.size else None,
                ci95=interval.limits,
                ci95_kind=interval.kind,
            )
        )
    return made


def _list_differences(
    column: Column, organ: str, metric: Metric, scores: Mapping[str, Floats]
) -> list[SubgroupDifference]:
    made = []
    for first, second in combinations(scores, 2):
        a, b = scores[first], scores[second]
        interval = compare_means(a, b).clip(metric.scale_of_differences)
        made.append(
            SubgroupDifference(
                column=column.name,
                first=first,
                second=second,
                organ=organ,
                metric=metric.key,
                n_first=a.size,
                n_second=b.size,
                difference=float(b.mean() - a.mean()) if a.size and b.size else None,
                ci95=interval.limits,
                ci95_kind=interval.kind,
                p=finite_or_none(rank_sum_p(a, b)),
                p_holm=None,
                verdict="not shown",
            )
        )
    return made


def _correct(differences: Sequence[SubgroupDifference]) -> list[SubgroupDifference]:
    """The differences with corrected p and verdict."""
    corrected = holm([math.nan if one.p is None else one.p for one in differences])
    return [
        replace(one, p_holm=finite_or_none(p), verdict=_judge(one, p))
        for one, p in zip(differences, corrected, strict=True)
    ]


def _judge(one: SubgroupDifference, p_holm: float) -> Verdict:
    if min(one.n_first, one.n_second) < FEWEST_PATIENTS:
        return "too few patients"
    apart = one.ci95 is not None and not one.ci95[0] <= 0 <= one.ci95[1]
    return "supported" if apart and p_holm < SIGNIFICANT else "not shown"


def write_subgroups(out: Path, subgroups: Subgroups) -> None:
    """Write both tables as CSV, the limits of intervals in two columns; raises `DiskError`."""
    for name, rows in ((MEANS_FILE, subgroups.means), (DIFFERENCES_FILE, subgroups.differences)):
        flat = [_flatten(asdict(row)) for row in rows]
        with atomic_write(out / name, "w") as file:
            writer = csv.DictWriter(file, list(flat[0]) if flat else ["column"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat)


def _flatten(row: Mapping[str, object]) -> dict[str, object]:
    """`ci95` as `ci95_low` and `ci95_high`; None as an empty cell."""
    made: dict[str, object] = {}
    for name, value in row.items():
        if name == "ci95":
            made["ci95_low"], made["ci95_high"] = value if isinstance(value, tuple) else (None, None)
        else:
            made[name] = value
    return made


def count_supported(subgroups: Subgroups) -> str:
    """How many differences are supported, in a sentence for the terminal."""
    found = [one for one in subgroups.differences if one.verdict == "supported"]
    small = sum(one.verdict == "too few patients" for one in subgroups.differences)
    text = f"subgroups: {len(found)} of {pluralize(len(subgroups.differences), 'difference')} supported"
    return text + (f", {small} between groups of fewer than {FEWEST_PATIENTS} patients" if small else "")
