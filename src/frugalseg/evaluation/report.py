"""The report of an evaluation: one HTML file to read, send and archive."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Template
from msgspec import UnsetType

from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.charts import draw_bland_altman, draw_histogram, draw_line_chart
from frugalseg.evaluation.lesions import LESION_METRICS
from frugalseg.evaluation.metric_table import METRICS, Place, group_by_rules, list_metrics
from frugalseg.evaluation.overlays import PREDICTION_COLOUR, REFERENCE_COLOUR, CaseView, choose_cases, draw_cases
from frugalseg.evaluation.page import make_page_environment
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.patients import list_patients
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.roles import ALL, GROUP_MEANINGS, choose_main_group
from frugalseg.evaluation.runs import RunFacts, find_intensity_scale, find_unlearned_organs, read_runs
from frugalseg.evaluation.trust import describe_kept, list_trust
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.subgroups import SubgroupDifference, SubgroupMean, Subgroups
from frugalseg.records.summary import GroupSummary, SummaryRecord
from frugalseg.text import format_number, join_words

REMARKS = {
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
"""Figures of `pretraining.probe`, the title of their chart, and the limits of its y axis."""

MASKS = ("reference", "prediction")
VOLUMES = tuple(f"volume_{mask}_ml" for mask in MASKS)
"""Metrics of the patient-by-patient tables beside those of the table of means."""

_CURVE_NAME = re.compile(r"[\w .-]+")


def render_evaluation_report(
    summary: SummaryRecord,
    rows: Sequence[CaseRow],
    pairs: Pairs,
    images: Mapping[str, Path],
    record: PredictionRecord | None,
) -> str:
    """The report as one HTML document.

    Args:
        summary: see `summary.build_summary`.
        rows: one for each case and organ.
        pairs: paths of the masks.
        images: case id → scan, for the pictures.
        record: content of predictions.json, or None.
    """
    runs = read_runs(Path(record.model) if record and record.model else None)
    first = choose_main_group(summary.groups)
    shown = set(summary.groups[first].cases)
    targets = summary.targets
    of_group = {o: [r for r in rows if r.organ == o and r.case in shown] for o in targets}
    scale = find_intensity_scale(runs)
    trust = list_trust(record.confidence if record else {}, rows, targets)
    page: str = _load_template().render(
        summary=summary,
        first=first,
        others=_list_other_groups(summary, first),
        groups=GROUP_MEANINGS,
        metrics=METRICS,
        columns=list_metrics(Place.REPORT),
        headline=list_metrics(Place.HEADLINE),
        roles_known=summary.headline != ALL,
        histograms=_draw_histograms(of_group),
        agreement_charts=_draw_agreements(of_group, summary.groups[first]),
        lesion_metrics=LESION_METRICS,
        subgroups=None if isinstance(summary.subgroups, UnsetType) else summary.subgroups,
        subgroup_tables={} if isinstance(summary.subgroups, UnsetType) else _list_subgroup_tables(summary.subgroups),
        patients=list_patients([r for r in rows if r.case in shown], pairs, images, targets, scale),
        patient_columns=[m for m in METRICS.values() if m.place >= Place.REPORT or m.key in VOLUMES],
        views={o: draw_cases(choose_cases(rs), pairs, images, targets, scale) for o, rs in of_group.items()},
        scale=scale,
        rows=rows,
        flags=REMARKS,
        rules=group_by_rules(list_metrics(Place.STUDIES)),
        outcomes=OUTCOMES,
        runs=[(run, _draw_curves(run)) for run in runs],
        unlearned=[organ for organ in find_unlearned_organs(runs) if organ in targets],
        prediction=record,
        trust=trust,
        promise_kept=describe_kept(trust),
        reference_colour=REFERENCE_COLOUR,
        prediction_colour=PREDICTION_COLOUR,
    )
    return page


def _load_template() -> Template:
    environment = make_page_environment()
    environment.filters["format_option"] = format_option
    environment.filters["format_interval"] = format_interval
    environment.filters["join_words"] = join_words
    environment.globals["describe_view"] = describe_view
    return environment.get_template("evaluation/report.html.j2")


def format_interval(limits: tuple[float, float], digits: int) -> str:
    """The limits of an interval in brackets."""
    return f"[{format_number(limits[0], digits)}, {format_number(limits[1], digits)}]"


def format_option(value: object) -> str:
    """An option's value as plain text."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_option(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {format_option(v)}" for k, v in value.items()) or "none"
    return str(value)


def describe_view(view: CaseView) -> str:
    """A case's figures in one line."""
    row = view.row
    known = (m for m in list_metrics(Place.HEADLINE) if not math.isnan(row[m.key]))
    parts = [f"{m.heading} {format_number(row[m.key], m.digits)} {m.unit}".rstrip() for m in known]
    parts.append(f"volume {format_number(row['volume_error_ml'], 1, sign=True)} ml")
    return ", ".join(parts)


def _list_other_groups(summary: SummaryRecord, first: str) -> list[str]:
    """The groups that hold a scan which is not in the first group."""
    shown = set(summary.groups[first].cases)
    return [name for name, group in summary.groups.items() if not shown.issuperset(group.cases)]


def _draw_histograms(of_group: Mapping[str, Sequence[CaseRow]]) -> list[str]:
    values = {organ: [r["dice"] for r in rs if r["dice"] == r["dice"]] for organ, rs in of_group.items()}
    return [draw_histogram(v, organ) for organ, v in values.items() if v]


def _draw_agreements(of_group: Mapping[str, Sequence[CaseRow]], group: GroupSummary) -> list[str]:
    charts = []
    for organ, rows in of_group.items():
        agreement = group.organs[organ].volume_agreement
        kept = [r for r in rows if r.outcome is not Outcome.BOTH_EMPTY]
        if kept and not isinstance(agreement, UnsetType):
            reference, prediction = (np.array([r[f"volume_{mask}_ml"] for r in kept]) for mask in MASKS)
            charts.append(draw_bland_altman(reference, prediction, agreement, f"{organ}: volume"))
    return charts


@dataclass(frozen=True)
class SubgroupTables:
    """The tables of one column of groups.

    Attributes:
        means: group and organ → metric → mean.
        differences: of every two groups.
    """

    means: dict[tuple[str, str], dict[str, SubgroupMean]]
    differences: list[SubgroupDifference]


def _list_subgroup_tables(subgroups: Subgroups) -> dict[str, SubgroupTables]:
    """Column → its tables."""
    tables: dict[str, SubgroupTables] = {}
    for mean in subgroups.means:
        own = tables.setdefault(mean.column, SubgroupTables({}, [])).means
        own.setdefault((mean.group, mean.organ), {})[mean.metric] = mean
    for difference in subgroups.differences:
        tables[difference.column].differences.append(difference)
    return tables


def _draw_curves(run: RunFacts) -> list[str]:
    """Charts of the logged loss, Dice and probe figures of a run over its steps."""
    names = [n for n in run.figure_names() if _CURVE_NAME.fullmatch(n)]
    losses = [n for n in names if n == "loss" or n.endswith("_loss") or n == "ce"]
    dices = [n for n in names if (n == "dice" or n.startswith("dice_")) and n not in losses]
    if len(dices) == 2:  # one organ: "dice" is its Dice
        dices = ["dice"]
    charts = []
    if losses:
        charts.append(draw_line_chart({n: run.curve(n) for n in losses}, f"{run.title}: loss"))
    if dices:
        curves = {n.removeprefix("dice_") if n != "dice" else "mean": run.curve(n) for n in dices}
        charts.append(draw_line_chart(curves, f"{run.title}: validation Dice", limits=(0, 1)))
    for shown, heading, limits in PROBE_CHARTS:
        probed = {n: run.curve(n) for n in shown if n in names}
        if probed:
            charts.append(draw_line_chart(probed, f"{run.title}: {heading}", limits))
    return charts
