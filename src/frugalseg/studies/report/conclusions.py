"""The conclusions of a study, in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from frugalseg.evaluation.metric_table import DICE
from frugalseg.evaluation.statistics import FEWEST_PATIENTS
from frugalseg.studies.report.comparison import Comparison, compare_with_baseline
from frugalseg.studies.report.formatting import describe_endpoint, format_method, format_p, list_sections
from frugalseg.studies.report.scores import Endpoint, Group, Scores
from frugalseg.text import format_number, pluralize

FEW_DRAWS = {
    1: " There is one draw of the labels: the intervals do not include the variation between draws.",
    2: " With two draws of the labels, their variation is poorly known, so these intervals can be wide.",
}
"""Draws of the labels → what that means for intervals (docs/reference/statistics.md)."""


@dataclass(frozen=True)
class Conclusion:
    """The conclusion for a test set and an organ.

    Attributes:
        place: organ, test set and number of scans measured.
        lead: the main sentences.
        lines: one per backbone and budget: which methods are supported against the baseline.
    """

    place: str
    lead: tuple[str, ...]
    lines: tuple[str, ...]


def conclude(scores: Scores, endpoint: Endpoint) -> Conclusion:
    """The conclusion from the Dice of an organ on a test set.

    A method is supported if the 95% interval of its paired difference to the baseline lies above 0: the interval over
    runs and patients if both methods have several runs in common, else the one over patients, which is stated. With
    fewer than six patients no method is supported. Whether the signed-rank test agrees after Holm's correction is
    stated, too.
    """
    comparisons = compare_with_baseline(scores, endpoint, DICE)
    lead = [_describe_highest(scores, endpoint, backbone) for backbone in scores.results.backbones]
    lines = [
        f"{_format_place(scores, backbone, budget)}: "
        + _describe_comparisons(
            scores, [c for c in comparisons if (c.group.backbone, c.group.budget) == (backbone, budget)]
        )
        for backbone, budget in list_sections(scores)
    ]
    if not comparisons:
        lines = [f"Only {scores.results.baseline} was planned: there is nothing to compare it with."]
    lead.append(_describe_overall(scores, comparisons))
    return Conclusion(
        f"{endpoint.organ} on {describe_endpoint(scores, endpoint)}", tuple(filter(None, lead)), tuple(lines)
    )


def _describe_highest(scores: Scores, endpoint: Endpoint, backbone: str) -> str:
    """How often each method has the highest mean Dice, among the budgets that every method has finished."""
    methods = scores.list_methods(backbone)
    budgets = [u for b, u in list_sections(scores) if b == backbone]
    if len(methods) < 2:
        return ""
    start = f"{backbone}: " if len(scores.results.backbones) > 1 else ""
    finished = [u for u in budgets if all(scores.is_complete(endpoint, Group(m, backbone, u)) for m in methods)]
    if not finished:
        return f"{start}No budget is finished for every method yet."
    pool = [m for m in methods if not scores.is_privileged(m)] or methods
    wins = Counter(filter(None, (_find_winner(scores, endpoint, pool, backbone, budget) for budget in finished)))
    if not wins:
        return f"{start}At no budget does a single method have the highest mean Dice."
    place = f"of {pluralize(len(finished), 'budget')}"
    if len(finished) < len(budgets):
        place += f" that every method has finished ({len(budgets)} are planned)"
    parts = [f"{format_method(scores, m)} has the highest mean Dice at {n} {place}" for m, n in wins.most_common(1)]
    parts += [f"{format_method(scores, m)} at {n}" for m, n in wins.most_common()[1:]]
    marks = "".join(dict.fromkeys(mark for m in methods if m not in pool for mark in scores.marks(m)))
    aside = f" Methods marked {' or '.join(marks)} are not compared here." if marks else ""
    return f"{start}{', '.join(parts)}.{aside}"


def _find_winner(scores: Scores, endpoint: Endpoint, pool: Sequence[str], backbone: str, budget: str) -> str:
    """The method with the highest mean; empty if several share it."""
    means = {m: scores.summarise(endpoint, Group(m, backbone, budget), DICE).mean for m in pool}
    highest = max((mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    winners = [m for m, mean in means.items() if mean == highest]
    return winners[0] if len(winners) == 1 else ""


def _describe_overall(scores: Scores, comparisons: Sequence[Comparison]) -> str:
    """At how many of the backbones and budgets each method is shown to be better, or worse, than the baseline."""
    judged = [c for c in comparisons if c.runs and c.difference.patients >= FEWEST_PATIENTS]
    if not judged:
        return ""
    places = len({(c.group.backbone, c.group.budget) for c in judged})
    parts = []
    for verdict, side in ((1, "above"), (-1, "below")):
        shown = [c for c in judged if c.verdict == verdict]
        by_method = {m: [c for c in shown if c.group.method == m] for m in scores.results.methods}
        order = sorted(
            (m for m, cs in by_method.items() if cs),
            key=lambda m: (
                scores.is_privileged(m),
                -len(by_method[m]),
                -abs(sum(c.difference.mean for c in by_method[m])),
            ),
        )
        named = [f"{format_method(scores, m)} in {len(by_method[m])} ({_format_range(by_method[m])})" for m in order]
        if named:
            parts.append(f"{side} 0 for {', '.join(named)}")
    what = f"In {pluralize(places, 'comparison')} of each method with {scores.results.baseline}, "
    caveat = FEW_DRAWS.get(len(scores.results.draws), "")
    if not parts:
        return f"{what}the 95% interval of the difference in Dice always includes 0.{caveat}"
    return f"{what}the 95% interval of the difference in Dice lies {'; '.join(parts)}.{caveat}"


def _format_range(comparisons: Sequence[Comparison]) -> str:
    means = [format_number(m, 3, sign=True) for m in sorted(c.difference.mean for c in comparisons)]
    return means[0] if len(means) == 1 else f"{means[0]} to {means[-1]}"


def _describe_comparisons(scores: Scores, comparisons: Sequence[Comparison]) -> str:
    baseline = scores.results.baseline
    if not comparisons:
        return f"only {baseline} is planned: there is nothing to compare it with."
    if not any(c.planned for c in comparisons):
        return f"{baseline} is not planned: there is nothing to compare with."
    made = [c for c in comparisons if c.runs]
    if not made:
        return f"no run of {baseline} and of another method is finished yet."
    patients = max(c.difference.patients for c in made)
    if patients < FEWEST_PATIENTS:
        return f"no method can be supported with {pluralize(patients, 'patient')} ({FEWEST_PATIENTS} are needed)."
    better = [c for c in made if c.verdict > 0]
    better.sort(key=lambda c: (scores.is_privileged(c.group.method), -c.difference.mean))
    worse = [c for c in made if c.verdict < 0]
    text = f"no improvement over {baseline}" if worse else f"no difference from {baseline} found"
    if better:
        text = f"{_describe_support(scores, better[0])} is supported against {baseline}"
        if others := ", ".join(format_method(scores, c.group.method) for c in better[1:]):
            text += f"; also supported: {others}"
    if worse:
        text += f"; worse{' than ' + baseline if better else ''}: "
        text += ", ".join(format_method(scores, c.group.method) for c in worse)
    pending = [format_method(scores, c.group.method) for c in comparisons if c.runs < c.planned]
    return f"{text}.{' Not all runs are finished: ' + ', '.join(pending) + '.' if pending else ''}"


def _describe_support(scores: Scores, c: Comparison) -> str:
    assert c.interval.limits is not None
    low, high = (format_number(limit, 3, sign=True) for limit in c.interval.limits)
    over = c.interval.kind + ("; one run, so another seed may differ" if c.runs == 1 else "")
    agrees = "" if c.p_holm < 0.05 else ", not below 0.05"
    if c.least_p_holm >= 0.05:
        agrees = ", which cannot fall below 0.05 with so many comparisons and so few patients"
    difference = f"{format_number(c.difference.mean, 3, sign=True)} Dice, 95% CI {low} to {high}"
    return f"{format_method(scores, c.group.method)} ({difference}, {over}; p Holm {format_p(c.p_holm)}{agrees})"


def _format_place(scores: Scores, backbone: str, budget: str) -> str:
    return f"{backbone}, {budget}" if len(scores.results.backbones) > 1 else budget
