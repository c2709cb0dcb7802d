"""What a study's numbers say, in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from frugalseg.evaluation.metric_table import DICE
from frugalseg.evaluation.statistics import FEWEST_PATIENTS
from frugalseg.studies.report.comparison import Comparison, compare_with_baseline
from frugalseg.studies.report.formatting import describe, label, p_text, sections_of
from frugalseg.studies.report.scores import Endpoint, Group, Scores
from frugalseg.text import format_number, pluralize

FEW_DRAWS = {
    1: " There is one draw of the labels: the intervals do not include the variation between draws.",
    2: " With two draws of the labels, their variation is poorly known, so these intervals can be wide.",
}
"""Draws of the labels → what that means for intervals (docs/reference/statistics.md)."""


@dataclass(frozen=True)
class Conclusion:
    """What the numbers of a test set and an organ say.

    Attributes:
        place: organ, test set and how much was measured.
        lead: the sentences to read first.
        lines: one a backbone and budget: which method is supported against the baseline there.
    """

    place: str
    lead: tuple[str, ...]
    lines: tuple[str, ...]


def conclude(scores: Scores, endpoint: Endpoint) -> Conclusion:
    """What the Dice of a test set and an organ says.

    A method is supported where the 95% interval of its paired difference to the baseline lies above 0: over runs and
    patients where both methods have several runs in common, over patients otherwise, which is said. Below six
    patients nothing is. Whether the signed-rank test agrees after Holm's correction is said too.
    """
    comparisons = compare_with_baseline(scores, endpoint, DICE)
    lead = [_highest(scores, endpoint, backbone) for backbone in scores.results.backbones]
    lines = [
        f"{_where(scores, backbone, budget)}: "
        + _judge(scores, [c for c in comparisons if (c.group.backbone, c.group.budget) == (backbone, budget)])
        for backbone, budget in sections_of(scores)
    ]
    if not comparisons:
        lines = [f"Only {scores.results.baseline} was planned: there is nothing to compare it with."]
    lead.append(_summary(scores, comparisons))
    return Conclusion(f"{endpoint.organ} on {describe(scores, endpoint)}", tuple(filter(None, lead)), tuple(lines))


def _highest(scores: Scores, endpoint: Endpoint, backbone: str) -> str:
    """How often each method has the highest mean Dice; budgets that some method has not finished do not count."""
    methods = scores.rows(backbone)
    budgets = [u for b, u in sections_of(scores) if b == backbone]
    if len(methods) < 2:
        return ""
    start = f"{backbone}: " if len(scores.results.backbones) > 1 else ""
    whole = [u for u in budgets if all(scores.complete(endpoint, Group(m, backbone, u)) for m in methods)]
    if not whole:
        return f"{start}No budget is finished by every method yet."
    pool = [m for m in methods if not scores.is_privileged(m)] or methods
    wins = Counter(filter(None, (_winner(scores, endpoint, pool, backbone, budget) for budget in whole)))
    if not wins:
        return f"{start}No method alone has the highest mean Dice at any budget."
    place = f"of {pluralize(len(whole), 'budget')}"
    if len(whole) < len(budgets):
        place += f" that every method has finished ({len(budgets)} are planned)"
    parts = [f"{label(scores, m)} has the highest mean Dice at {n} {place}" for m, n in wins.most_common(1)]
    parts += [f"{label(scores, m)} at {n}" for m, n in wins.most_common()[1:]]
    marks = "".join(dict.fromkeys(mark for m in methods if m not in pool for mark in scores.marks(m)))
    aside = f" Methods marked {' or '.join(marks)} are left aside here." if marks else ""
    return f"{start}{', '.join(parts)}.{aside}"


def _winner(scores: Scores, endpoint: Endpoint, pool: Sequence[str], backbone: str, budget: str) -> str:
    """The method with the highest mean; none where several share it."""
    means = {m: scores.summary(endpoint, Group(m, backbone, budget), DICE).mean for m in pool}
    highest = max((mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    winners = [m for m, mean in means.items() if mean == highest]
    return winners[0] if len(winners) == 1 else ""


def _summary(scores: Scores, comparisons: Sequence[Comparison]) -> str:
    """At how many of the places compared each method is shown to be better, or worse, than the baseline."""
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
        named = [f"{label(scores, m)} at {len(by_method[m])} ({_span(by_method[m])})" for m in order]
        if named:
            parts.append(f"{side} 0 for {', '.join(named)}")
    what = f"Of {pluralize(places, 'comparison')} with {scores.results.baseline} each, "
    caveat = FEW_DRAWS.get(len(scores.results.draws), "")
    lies = "; ".join(parts) or "around 0 for every method"
    return f"{what}the 95% interval of the difference in Dice lies {lies}.{caveat}"


def _span(comparisons: Sequence[Comparison]) -> str:
    means = [format_number(m, 3, sign=True) for m in sorted(c.difference.mean for c in comparisons)]
    return means[0] if len(means) == 1 else f"{means[0]} to {means[-1]}"


def _judge(scores: Scores, comparisons: Sequence[Comparison]) -> str:
    baseline = scores.results.baseline
    if not comparisons:
        return f"only {baseline} is planned, so nothing is compared."
    if not any(c.planned for c in comparisons):
        return f"{baseline} is not planned, so not compared."
    made = [c for c in comparisons if c.runs]
    if not made:
        return f"no run is finished by both {baseline} and another method."
    patients = max(c.difference.patients for c in made)
    if patients < FEWEST_PATIENTS:
        return f"{pluralize(patients, 'patient')} {'is' if patients == 1 else 'are'} too few to support any method."
    better = [c for c in made if c.verdict > 0]
    better.sort(key=lambda c: (scores.is_privileged(c.group.method), -c.difference.mean))
    worse = [c for c in made if c.verdict < 0]
    text = f"no {'improvement over' if worse else 'difference from'} {baseline} found"
    if better:
        text = f"{_claim(scores, better[0])} is supported against {baseline}"
        if others := ", ".join(label(scores, c.group.method) for c in better[1:]):
            text += f"; so {'is' if len(better) == 2 else 'are'} {others}"
    if worse:
        text += f"; worse{' than ' + baseline if better else ''}: "
        text += ", ".join(label(scores, c.group.method) for c in worse)
    pending = [label(scores, c.group.method) for c in comparisons if c.runs < c.planned]
    return f"{text}.{' Not all runs are finished: ' + ', '.join(pending) + '.' if pending else ''}"


def _claim(scores: Scores, c: Comparison) -> str:
    assert c.interval.limits is not None
    low, high = (format_number(limit, 3, sign=True) for limit in c.interval.limits)
    over = c.interval.kind + ("; one run, so another seed may differ" if c.runs == 1 else "")
    agrees = "" if c.p_holm < 0.05 else ", not below 0.05"
    if c.least_p_holm >= 0.05:
        agrees = ", which cannot fall below 0.05 in so many comparisons of so few patients"
    return (
        f"{label(scores, c.group.method)} ({format_number(c.difference.mean, 3, sign=True)} Dice, 95% CI {low} to "
        f"{high}, {over}; p Holm {p_text(c.p_holm)}{agrees})"
    )


def _where(scores: Scores, backbone: str, budget: str) -> str:
    return f"{backbone}, {budget}" if len(scores.results.backbones) > 1 else budget
