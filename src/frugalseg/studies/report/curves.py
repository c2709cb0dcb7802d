"""Charts of Dice against the label budget: one per test set, organ and backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from frugalseg.evaluation.charts import COLOURS, INK, make_chart, to_svg
from frugalseg.evaluation.metric_table import DICE
from frugalseg.studies.report.formatting import format_method
from frugalseg.studies.report.scores import Endpoint, Group, Scores
from frugalseg.text import pluralize

STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")


def draw_dice_curves(scores: Scores) -> list[str]:
    """Every chart with at least one point, as SVG."""
    return [
        draw_dice_curve(scores, endpoint, backbone)
        for endpoint in scores.endpoints
        for backbone in scores.results.backbones
        if any(scores.count_finished(endpoint, group) for group in scores.planned if group.backbone == backbone)
    ]


def describe_bands(scores: Scores) -> str:
    """A sentence on the bands of the charts: the kinds of interval, and why a point has none."""
    summaries = (
        scores.summarise(q, g, DICE)
        for q in scores.endpoints
        for g in scores.list_groups()
        if scores.count_finished(q, g)
    )
    kinds = dict.fromkeys(summary.ci95_runs.kind for summary in summaries)
    return f"Bands: 95% interval over runs and patients ({'; '.join(kinds)})."


def draw_dice_curve(scores: Scores, endpoint: Endpoint, backbone: str) -> str:
    """Draw the mean Dice of every method over the budgets, with its 95% interval over runs and patients as a band.

    Budgets are in the plan's order at equal distances, or on a logarithmic axis of annotated slices if their number is
    known and increases from each budget to the next. A budget without a finished run is a gap in the line; where runs
    are missing, the marker is hollow. The baseline has the text's colour.

    Returns:
        SVG.
    """
    budgets = scores.results.budgets
    masks = [_mean_mask_count(scores, backbone, budget) for budget in budgets]
    numeric = len(budgets) > 1 and all(a < b for a, b in pairwise(masks))
    positions = masks if numeric else [float(i) for i in range(len(budgets))]
    title = f"{endpoint.organ} on {endpoint.test.name}"
    if len(scores.results.backbones) > 1:
        title += f", {backbone}"
    figure, axes = make_chart(_escape_matplotlib(title), 7.6, 3.4)
    others = [m for m in scores.list_methods(backbone) if m != scores.results.baseline]
    for method in scores.list_methods(backbone):
        style = _choose_style(others.index(method) if method in others else None)
        groups = [Group(method, backbone, budget) for budget in budgets]
        _draw_method(axes, scores, endpoint, groups, positions, style)
    axes.set_xlabel("annotated slices" if numeric else "labels used")
    axes.set_ylabel(DICE.title)
    if numeric:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(positions, [_format_tick(b, m) for b, m in zip(budgets, masks, strict=True)])
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return to_svg(figure, f"{title} {backbone}")


def _draw_method(
    axes: Any,
    scores: Scores,
    endpoint: Endpoint,
    groups: Sequence[Group],
    positions: Sequence[float],
    style: dict[str, Any],
) -> None:
    summaries = [scores.summarise(endpoint, group, DICE) for group in groups]
    means = [s.mean for s in summaries]
    whole = [group in scores.planned and scores.is_complete(endpoint, group) for group in groups]
    axes.plot(
        positions,
        means,
        lw=1.7,
        markevery=whole,
        label=_escape_matplotlib(format_method(scores, groups[0].method)),
        **style,
    )
    hollow = {"marker": style["marker"], "ms": style["ms"], "color": style["color"], "mfc": "none", "ls": ""}
    axes.plot(positions, means, markevery=[not w for w in whole], **hollow)
    bands = [s.ci95_runs.limits or (math.nan, math.nan) for s in summaries]
    low, high = [b[0] for b in bands], [b[1] for b in bands]
    alpha = 0.12 if len(scores.results.methods) <= len(COLOURS) else 0.06  # many bands hide the lines
    axes.fill_between(positions, low, high, color=style["color"], alpha=alpha, lw=0)
    if not any(math.isfinite(a) and math.isfinite(b) for a, b in pairwise(low)):
        axes.vlines(positions, low, high, color=style["color"], alpha=0.6, lw=1)  # points alone have no area to fill


def _choose_style(index: int | None) -> dict[str, Any]:
    """Colour, dashes and marker of the n-th method; None is the baseline."""
    if index is None:
        return {"color": INK, "ls": "-", "marker": "o", "ms": 4}
    turn = index // len(COLOURS) % len(STYLES)
    return {"color": COLOURS[index % len(COLOURS)], "ls": STYLES[turn], "marker": MARKERS[turn], "ms": 4}


def _mean_mask_count(scores: Scores, backbone: str, budget: str) -> float:
    """Mean number of annotated slices of a budget over its finished runs; NaN if unknown."""
    trials = scores.results.trials
    wanted = (trials["backbone"] == backbone) & (trials["budget"] == budget) & (trials["state"] == "done")
    counts = [float(v) for v in trials.loc[wanted, "masks"] if isinstance(v, (int, float)) and v == v and v > 0]
    return sum(counts) / len(counts) if counts else math.nan


def _format_tick(budget: str, masks: float) -> str:
    slices = "" if math.isnan(masks) or budget.endswith(("slice", "slices")) else f"\n{pluralize(round(masks), 'mask')}"
    return _escape_matplotlib(budget) + slices


def _escape_matplotlib(text: str) -> str:
    """Text for matplotlib: `$` is no formula, and a leading `_` does not hide it from the legend."""
    text = text.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text
