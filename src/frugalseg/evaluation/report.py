"""The report of an evaluation: one HTML file that a person can read, send and archive."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Template

from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.charts import histogram, line_chart
from frugalseg.evaluation.metric_table import METRICS, Place, group_by_rules, metrics_in
from frugalseg.evaluation.overlays import PREDICTION_COLOUR, REFERENCE_COLOUR, CaseView, choose_cases, draw_cases
from frugalseg.evaluation.page import page_environment
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.roles import ALL, GROUPS
from frugalseg.evaluation.runs import RunFacts, intensity_of, read_runs
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.summary import SummaryRecord
from frugalseg.text import format_number

FLAGS = {
    Outcome.BOTH: "",
    Outcome.MISSED: "organ missed",
    Outcome.FALSE_POSITIVE: "false positive: not in reference",
    Outcome.BOTH_EMPTY: "organ in neither mask",
}

PROBE_CHARTS: tuple[tuple[tuple[str, ...], str, tuple[float, float] | None], ...] = (
    (("probe_auroc",), "organ present, AUROC", (0, 1)),
    (("alignment", "uniformity"), "alignment and uniformity", None),
    (("embedding_rank",), "rank of the embedding", None),
)
"""Figures of `pretraining.probe`, the heading of their chart, and its limits."""

_CURVE_NAME = re.compile(r"[\w .-]+")


def render_report(
    summary: SummaryRecord,
    records: Sequence[CaseRow],
    pairs: Pairs,
    images: Mapping[str, Path],
    record: PredictionRecord | None,
) -> str:
    """The report as one HTML document.

    Args:
        summary: see `summary.build_summary`.
        records: one a case and organ.
        pairs: where the masks lie.
        images: case id → scan, for the pictures.
        record: what predictions.json tells, or None.
    """
    runs = read_runs(Path(record.model) if record and record.model else None)
    first = summary.headline or next(iter(summary.groups))
    shown = set(summary.groups[first].cases)
    targets = summary.targets
    of_group = {o: [r for r in records if r.organ == o and r.case in shown] for o in targets}
    scale = intensity_of(runs)
    page: str = _template().render(
        summary=summary,
        first=first,
        others=_other_groups(summary, first),
        groups=GROUPS,
        metrics=METRICS,
        columns=metrics_in(Place.REPORT),
        headline=metrics_in(Place.HEADLINE),
        roles_known=summary.headline != ALL,
        histograms=_histograms(of_group),
        views={o: draw_cases(choose_cases(rs), pairs, images, targets, scale) for o, rs in of_group.items()},
        scale=scale,
        records=records,
        flags=FLAGS,
        rules=group_by_rules(metrics_in(Place.STUDIES)),
        outcomes=OUTCOMES,
        runs=[(run, _curves(run)) for run in runs],
        prediction=record,
        reference_colour=REFERENCE_COLOUR,
        prediction_colour=PREDICTION_COLOUR,
    )
    return page


def _template() -> Template:
    environment = page_environment()
    environment.filters["plain"] = plain_value
    environment.globals["describe_view"] = describe_view
    return environment.get_template("evaluation/report.html.j2")


def plain_value(value: object) -> str:
    """An option's value as a person writes it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain_value(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {plain_value(v)}" for k, v in value.items()) or "none"
    return str(value)


def describe_view(view: CaseView) -> str:
    """A case's figures in one line."""
    record = view.record
    known = (m for m in metrics_in(Place.HEADLINE) if not math.isnan(record[m.key]))
    parts = [f"{m.heading} {format_number(record[m.key], m.digits)} {m.unit}".rstrip() for m in known]
    parts.append(f"volume {format_number(record['volume_error_ml'], 1, sign=True)} ml")
    return ", ".join(parts)


def _other_groups(summary: SummaryRecord, first: str) -> list[str]:
    """Groups shown beside the first, without those that hold no scan that is not in it."""
    shown = set(summary.groups[first].cases)
    return [name for name, group in summary.groups.items() if not shown.issuperset(group.cases)]


def _histograms(of_group: Mapping[str, Sequence[CaseRow]]) -> list[str]:
    values = {organ: [r["dice"] for r in rs if r["dice"] == r["dice"]] for organ, rs in of_group.items()}
    return [histogram(v, organ) for organ, v in values.items() if v]


def _curves(run: RunFacts) -> list[str]:
    """Loss, Dice, and the figures of a pre-training's probe over the steps of a run, as far as they were logged."""
    names = [n for n in run.figures() if _CURVE_NAME.fullmatch(n)]
    losses = [n for n in names if n == "loss" or n.endswith("_loss") or n == "ce"]
    dices = [n for n in names if (n == "dice" or n.startswith("dice_")) and n not in losses]
    if len(dices) == 2:  # one organ: "dice" is its Dice
        dices = ["dice"]
    charts = []
    if losses:
        charts.append(line_chart({n: run.curve(n) for n in losses}, f"{run.title}: loss"))
    if dices:
        curves = {n.removeprefix("dice_") if n != "dice" else "mean": run.curve(n) for n in dices}
        charts.append(line_chart(curves, f"{run.title}: validation Dice", limits=(0, 1)))
    for shown, heading, limits in PROBE_CHARTS:
        probed = {n: run.curve(n) for n in shown if n in names}
        if probed:
            charts.append(line_chart(probed, f"{run.title}: {heading}", limits))
    return charts
