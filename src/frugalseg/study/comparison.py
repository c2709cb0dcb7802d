"""Every method against the study's baseline, patient by patient and run by run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from frugalseg.evaluate.metric_table import Metric
from frugalseg.evaluate.statistics import (
    FEWEST_PATIENTS,
    Interval,
    RunSummary,
    SignedRank,
    holm,
    mean_without_nan,
    signed_rank,
    summarise_runs,
)
from frugalseg.study.scores import Group, Question, Scores


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline at one budget, on the runs (draw, seed) that both have finished.

    Attributes:
        question, metric, group: what is compared.
        runs: runs that both have.
        planned: runs that both should have.
        difference: the method's score minus the baseline's.
        rank: signed-rank test over patients on scores averaged over the runs.
        family: comparisons with a p on this test set, organ and metric, but for guided methods, which are no rivals:
            what Holm's correction runs over.
        p_holm: the corrected p; NaN without a p.
        least_p_holm: the least corrected p that a family of so many comparisons on so many patients can give.
    """

    question: Question
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


def compare_with_baseline(scores: Scores, question: Question, metric: Metric) -> list[Comparison]:
    """All comparisons of one family, in the order of `Scores.groups`; empty where only the baseline was planned.

    Args:
        scores: of the study.
        question: test set and organ.
        metric: any of `scores.metrics_of` the test set.
    """
    baseline = scores.results.baseline
    family = [
        _compare(scores, question, metric, group, Group(baseline, group.backbone, group.budget))
        for group in scores.groups()
        if group.method != baseline
    ]
    corrected = holm([math.nan if scores.had(c.group.method)["guided"] else c.rank.p for c in family])
    tested = sum(not math.isnan(p) for p in corrected)
    least = min(1.0, tested * min((c.rank.least_p for c in family), default=1.0))
    return [replace(c, family=tested, p_holm=p, least_p_holm=least) for c, p in zip(family, corrected, strict=True)]


def _compare(scores: Scores, question: Question, metric: Metric, group: Group, baseline: Group) -> Comparison:
    mine, theirs = scores.runs(question, group, metric), scores.runs(question, baseline, metric)
    common = mine.index.intersection(theirs.index)
    differences = (mine.loc[common] - theirs.loc[common]).to_numpy(dtype=float)
    return Comparison(
        question=question,
        metric=metric,
        group=group,
        runs=len(common),
        planned=min(scores.planned[group], scores.planned.get(baseline, 0)),
        difference=summarise_runs(
            differences, list(common), scores.resamples, scores.seed, metric.scale_of_differences
        ),
        rank=signed_rank(mean_without_nan(differences, axis=0)),
        family=0,
        p_holm=math.nan,
        least_p_holm=math.nan,
    )
