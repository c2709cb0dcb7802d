"""Comparison of every method with the study's baseline, paired by patient and by run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from frugalseg.evaluation.metric_table import Metric
from frugalseg.evaluation.statistics import (
    FEWEST_PATIENTS,
    Interval,
    Run,
    RunSummary,
    SignedRank,
    holm,
    mean_without_nan,
    signed_rank,
    summarise_runs,
)
from frugalseg.studies.report.scores import Endpoint, Group, Scores


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline at one budget, on the runs (draw, seed) that both have finished.

    Attributes:
        endpoint, metric, group: what is compared.
        runs: finished pairs of runs, one of the method and one of the baseline. A run that represents several draws or
            seeds (at 100 % of the labels, or without training) is paired with every run of the other method.
        planned: planned pairs of runs.
        difference: the method's score minus the baseline's.
        rank: signed-rank test over patients on scores averaged over the runs.
        family: size of the family of Holm's correction: the comparisons with a p on this test set, organ and metric,
            without methods that use test references, which are not ranked with the others.
        p_holm: the corrected p; NaN without a p.
        least_p_holm: the smallest corrected p possible with this number of comparisons and patients.
    """

    endpoint: Endpoint
    metric: Metric
    group: Group
    runs: int
    planned: int
    difference: RunSummary
    rank: SignedRank
    family: int
    p_holm: float
    least_p_holm: float

    @property
    def interval(self) -> Interval:
        """The interval behind the verdict: over runs and patients if there are several runs, else over patients."""
        return self.difference.ci95_runs if self.runs > 1 else self.difference.ci95

    @property
    def verdict(self) -> int:
        """+1 if the interval shows the method to be better than the baseline, -1 if worse, else 0.

        With fewer than six patients it is always 0: the signed-rank test could not agree, and so few scores do not show
        whether their distribution is skewed, which the t interval assumes it is not.
        """
        if self.interval.limits is None or self.difference.patients < FEWEST_PATIENTS:
            return 0
        low, high = self.interval.limits
        return self.metric.better * ((low > 0) - (high < 0))


def compare_with_baseline(scores: Scores, endpoint: Endpoint, metric: Metric) -> list[Comparison]:
    """All comparisons of one family, in the order of `Scores.list_groups`; empty if only the baseline was planned.

    Each is with the baseline of the same backbone; of its only one, if the baseline is planned with one alone, as where
    a plan compares kinds of network.

    Args:
        scores: of the study.
        endpoint: test set and organ.
        metric: one of `scores.list_test_metrics` of the test set.
    """
    baseline = scores.results.baseline
    backbones = {group.backbone for group in scores.list_groups() if group.method == baseline}
    only = backbones.pop() if len(backbones) == 1 else None
    family = [
        _compare_groups(scores, endpoint, metric, group, Group(baseline, only or group.backbone, group.budget))
        for group in scores.list_groups()
        if group.method != baseline
    ]
    corrected = holm(
        [math.nan if scores.privileges(c.group.method)["uses_test_references"] else c.rank.p for c in family]
    )
    tested = sum(not math.isnan(p) for p in corrected)
    least = min(1.0, tested * min((c.rank.least_p for c in family), default=1.0))
    return [replace(c, family=tested, p_holm=p, least_p_holm=least) for c, p in zip(family, corrected, strict=True)]


def _compare_groups(scores: Scores, endpoint: Endpoint, metric: Metric, group: Group, baseline: Group) -> Comparison:
    mine, theirs = scores.run_scores(endpoint, group, metric), scores.run_scores(endpoint, baseline, metric)
    planned = scores.pair_runs(group, baseline)
    paired = {pair: place for pair, place in planned.items() if pair[0] in mine.index and pair[1] in theirs.index}
    ours, others = ([pair[side] for pair in paired] for side in (0, 1))
    differences = _select_runs(mine, ours) - _select_runs(theirs, others)
    return Comparison(
        endpoint=endpoint,
        metric=metric,
        group=group,
        runs=len(paired),
        planned=len(planned),
        difference=summarise_runs(
            differences, list(paired.values()), scores.resamples, scores.seed, metric.scale_of_differences
        ),
        rank=signed_rank(mean_without_nan(differences, axis=0)),
        family=0,
        p_holm=math.nan,
        least_p_holm=math.nan,
    )


def _select_runs(scores: pd.DataFrame, runs: Sequence[Run]) -> npt.NDArray[np.float64]:
    """(runs, patients): the scores of these runs, in the given order."""
    row = {run: i for i, run in enumerate(scores.index)}
    rows: npt.NDArray[np.float64] = scores.to_numpy(dtype=np.float64)[[row[run] for run in runs]]
    return rows
