"""Every method against the study's baseline, patient by patient and run by run."""

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
    RunSummary,
    SignedRank,
    holm,
    mean_without_nan,
    signed_rank,
    summarise_runs,
)
from frugalseg.studies.jobs.equivalent_runs import Run
from frugalseg.studies.report.scores import Endpoint, Group, Scores


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline at one budget, on the runs (draw, seed) that both have finished.

    Attributes:
        endpoint, metric, group: what is compared.
        runs: pairs of runs, one of each, that are finished. What is trained once (100 % of the labels, whichever draw)
            or not at all belongs to every run of the other, and is paired with each.
        planned: pairs that there should be.
        difference: the method's score minus the baseline's.
        rank: signed-rank test over patients on scores averaged over the runs.
        family: comparisons with a p on this test set, organ and metric, but for methods that use test references, which
            are no rivals: what Holm's correction runs over.
        p_holm: the corrected p; NaN without a p.
        least_p_holm: the least corrected p that a family of so many comparisons on so many patients can give.
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
        """The interval that decides: over runs and patients where there are several runs, else over patients."""
        return self.difference.ci95_runs if self.runs > 1 else self.difference.ci95

    @property
    def verdict(self) -> int:
        """+1 where the interval shows the method to be better than the baseline, -1 worse, 0 neither.

        Below six patients it is always 0: the signed-rank test could not agree, and whether the patients are skewed,
        as the t interval must assume they are not, cannot be seen of so few.
        """
        if self.interval.limits is None or self.difference.patients < FEWEST_PATIENTS:
            return 0
        low, high = self.interval.limits
        return self.metric.better * ((low > 0) - (high < 0))


def compare_with_baseline(scores: Scores, endpoint: Endpoint, metric: Metric) -> list[Comparison]:
    """All comparisons of one family, in the order of `Scores.groups`; empty where only the baseline was planned.

    Args:
        scores: of the study.
        endpoint: test set and organ.
        metric: any of `scores.metrics_of` the test set.
    """
    baseline = scores.results.baseline
    family = [
        _compare(scores, endpoint, metric, group, Group(baseline, group.backbone, group.budget))
        for group in scores.groups()
        if group.method != baseline
    ]
    corrected = holm(
        [math.nan if scores.privileges(c.group.method)["uses_test_references"] else c.rank.p for c in family]
    )
    tested = sum(not math.isnan(p) for p in corrected)
    least = min(1.0, tested * min((c.rank.least_p for c in family), default=1.0))
    return [replace(c, family=tested, p_holm=p, least_p_holm=least) for c, p in zip(family, corrected, strict=True)]


def _compare(scores: Scores, endpoint: Endpoint, metric: Metric, group: Group, baseline: Group) -> Comparison:
    mine, theirs = scores.runs(endpoint, group, metric), scores.runs(endpoint, baseline, metric)
    planned = scores.pairs(group, baseline)
    met = {pair: place for pair, place in planned.items() if pair[0] in mine.index and pair[1] in theirs.index}
    ours, others = ([pair[side] for pair in met] for side in (0, 1))
    differences = _rows(mine, ours) - _rows(theirs, others)
    return Comparison(
        endpoint=endpoint,
        metric=metric,
        group=group,
        runs=len(met),
        planned=len(planned),
        difference=summarise_runs(
            differences, list(met.values()), scores.resamples, scores.seed, metric.scale_of_differences
        ),
        rank=signed_rank(mean_without_nan(differences, axis=0)),
        family=0,
        p_holm=math.nan,
        least_p_holm=math.nan,
    )


def _rows(scores: pd.DataFrame, runs: Sequence[Run]) -> npt.NDArray[np.float64]:
    """(runs, patients): the scores of these runs, in this order."""
    row = {run: i for i, run in enumerate(scores.index)}
    rows: npt.NDArray[np.float64] = scores.to_numpy(dtype=np.float64)[[row[run] for run in runs]]
    return rows
