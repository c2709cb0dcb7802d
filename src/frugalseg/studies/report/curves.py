"""Dice against what was annotated: one chart a test set, organ and backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from frugalseg.evaluation.charts import COLOURS, INK, make_chart, to_svg
from frugalseg.evaluation.metric_table import DICE
from frugalseg.studies.report.formatting import label
from frugalseg.studies.report.scores import Endpoint, Group, Scores
from frugalseg.text import pluralize

STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")


def dice_curves(scores: Scores) -> list[str]:
    """Every chart that has a point to show, as SVG."""
    return [
        dice_curve(scores, endpoint, backbone)
        for endpoint in scores.endpoints
        for backbone in scores.results.backbones
        if any(scores.finished(endpoint, group) for group in scores.planned if group.backbone == backbone)
    ]


def bands_note(scores: Scores) -> str:
    """What the bands of all charts are: the kinds of interval that they show, and why a point has none."""
    summaries = (scores.summary(q, g, DICE) for q in scores.endpoints for g in scores.groups() if scores.finished(q, g))
    kinds = dict.fromkeys(summary.ci95_runs.kind for summary in summaries)
    return f"Bands: 95% interval over runs and patients ({'; '.join(kinds)})."


def dice_curve(scores: Scores, endpoint: Endpoint, backbone: str) -> str:
    """Mean Dice of every method over the budgets, with its 95% interval over runs and patients as a band.

    Budgets stand in the plan's order at equal distances, or on a logarithmic axis of annotated slices where their
    number is known and rises from each budget to the next. A budget without a finished run leaves a gap in the line;
    where runs are missing the marker is hollow. The baseline has the text's colour.

    Returns:
        SVG.
    """
    budgets = scores.results.budgets
    masks = [_masks(scores, backbone, budget) for budget in budgets]
    numeric = len(budgets) > 1 and all(a < b for a, b in pairwise(masks))
    positions = masks if numeric else [float(i) for i in range(len(budgets))]
    title = f"{endpoint.organ} on {endpoint.test.name}"
    if len(scores.results.backbones) > 1:
        title += f", {backbone}"
    figure, axes = make_chart(_plain(title), 7.6, 3.4)
    others = [m for m in scores.rows(backbone) if m != scores.results.baseline]
    for method in scores.rows(backbone):
        look = _look(others.index(method) if method in others else None)
        groups = [Group(method, backbone, budget) for budget in budgets]
        _draw(axes, scores, endpoint, groups, positions, look)
    axes.set_xlabel("annotated slices" if numeric else "labels used")
    axes.set_ylabel(DICE.title)
    if numeric:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(positions, [_tick(b, m) for b, m in zip(budgets, masks, strict=True)])
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return to_svg(figure, f"{title} {backbone}")


def _draw(
    axes: Any,
    scores: Scores,
    endpoint: Endpoint,
    groups: Sequence[Group],
    positions: Sequence[float],
    look: dict[str, Any],
) -> None:
    summaries = [scores.summary(endpoint, group, DICE) for group in groups]
    means = [s.mean for s in summaries]
    whole = [group in scores.planned and scores.complete(endpoint, group) for group in groups]
    axes.plot(positions, means, lw=1.7, markevery=whole, label=_plain(label(scores, groups[0].method)), **look)
    hollow = {"marker": look["marker"], "ms": look["ms"], "color": look["color"], "mfc": "none", "ls": ""}
    axes.plot(positions, means, markevery=[not w for w in whole], **hollow)
    bands = [s.ci95_runs.limits or (math.nan, math.nan) for s in summaries]
    low, high = [b[0] for b in bands], [b[1] for b in bands]
    alpha = 0.12 if len(scores.results.methods) <= len(COLOURS) else 0.06  # many bands hide the lines
    axes.fill_between(positions, low, high, color=look["color"], alpha=alpha, lw=0)
    if not any(math.isfinite(a) and math.isfinite(b) for a, b in pairwise(low)):
        axes.vlines(positions, low, high, color=look["color"], alpha=0.6, lw=1)  # points alone have no area to fill


def _look(index: int | None) -> dict[str, Any]:
    """Colour, dashes and marker of the n-th method; None is the baseline."""
    if index is None:
        return {"color": INK, "ls": "-", "marker": "o", "ms": 4}
    turn = index // len(COLOURS) % len(STYLES)
    return {"color": COLOURS[index % len(COLOURS)], "ls": STYLES[turn], "marker": MARKERS[turn], "ms": 4}


def _masks(scores: Scores, backbone: str, budget: str) -> float:
    """Annotated slices of a budget, on average over its finished runs; NaN where not known."""
    trials = scores.results.trials
    wanted = (trials["backbone"] == backbone) & (trials["budget"] == budget) & (trials["state"] == "done")
    counts = [float(v) for v in trials.loc[wanted, "masks"] if isinstance(v, (int, float)) and v == v and v > 0]
    return sum(counts) / len(counts) if counts else math.nan


def _tick(budget: str, masks: float) -> str:
    slices = "" if math.isnan(masks) or budget.endswith(("slice", "slices")) else f"\n{pluralize(round(masks), 'mask')}"
    return _plain(budget) + slices


def _plain(text: str) -> str:
    """Text that matplotlib neither reads as a formula nor, for its first letter, leaves out of the legend."""
    text = text.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text
