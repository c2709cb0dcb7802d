"""The table of comparisons with the baseline."""

from __future__ import annotations

import pandas as pd

from frugalseg.evaluation.metric_table import Better, Metric
from frugalseg.evaluation.statistics import FEWEST_PATIENTS
from frugalseg.studies.report.comparison import Comparison, compare_with_baseline
from frugalseg.studies.report.formatting import (
    describe_endpoint,
    find_usual_kind,
    format_interval,
    format_method,
    format_p,
    format_usual_kind,
    list_sections,
    make_notes,
    summary_to_dict,
    to_file_name,
)
from frugalseg.studies.report.scores import Endpoint, Scores
from frugalseg.studies.report.table import NO_VALUE, Section, Table, TableCell
from frugalseg.text import format_number

READING = {Better.HIGHER: " (above 0 is better)", Better.LOWER: " (below 0 is better)", Better.NEITHER: ""}
"""Addition to a title: which differences are in favour of a method."""


def comparison_table(scores: Scores, endpoint: Endpoint, metric: Metric) -> Table | None:
    """Every method against the baseline: difference, intervals, p; None if only the baseline was planned."""
    comparisons = compare_with_baseline(scores, endpoint, metric)
    if not comparisons:
        return None
    first = comparisons[0]
    of_patients = find_usual_kind(c.difference.ci95 for c in comparisons)
    of_runs = find_usual_kind(c.difference.ci95_runs for c in comparisons if c.runs > 1)
    underpowered = (
        f"No corrected p in this table can be below {first.least_p_holm:.3g}: there are too many comparisons for so "
        "few patients."
        if first.least_p_holm >= 0.05
        else ""
    )
    sections = tuple(
        Section(
            f"{backbone}, {budget}",
            tuple(
                _make_row(scores, c, metric, of_patients, of_runs)
                for c in comparisons
                if (c.group.backbone, c.group.budget) == (backbone, budget)
            ),
        )
        for backbone, budget in list_sections(scores)
    )
    return Table(
        name=to_file_name(f"comparison {endpoint.test.name} {endpoint.organ} {metric.key}"),
        title=f"{metric.title} of {endpoint.organ} on {describe_endpoint(scores, endpoint)}: difference to "
        f"{scores.results.baseline}{READING[metric.better]}",
        words=1,
        spans=(),
        columns=("Method", "Difference", "CI patients", "CI patients and runs", "p", "p Holm", "Patients", "Runs"),
        sections=tuple(s for s in sections if s.rows),
        notes=make_notes(
            scores,
            "Paired by patient and by run (draw, seed), on the runs that both methods have finished. CI: 95% interval "
            "of the mean difference.",
            f"CI patients: variation with other patients.{format_usual_kind(of_patients)}",
            f"CI patients and runs: variation with other patients, draws and seeds.{format_usual_kind(of_runs)}",
            "p: two-sided Wilcoxon signed-rank test over patients on scores averaged over the runs; p Holm: corrected "
            f"over the {first.family} comparisons of this table (all methods, backbones and budgets).",
            f"With fewer than {FEWEST_PATIENTS} patients whose scores differ, p cannot fall below 0.05 for any "
            "difference; such p are marked.",
            *([underpowered] if underpowered else []),
        ),
        data=pd.DataFrame([_make_record(scores, c) for c in comparisons]),
    )


def _make_row(scores: Scores, c: Comparison, metric: Metric, of_patients: str, of_runs: str) -> tuple[TableCell, ...]:
    digits, d = metric.digits, c.difference
    runs = TableCell(f"{c.runs} of {c.planned}" if c.runs != c.planned else str(c.runs))
    if not c.planned:
        runs = TableCell(NO_VALUE, f"{scores.results.baseline} not planned")
    name = TableCell(format_method(scores, c.group.method))
    if not c.runs:
        return (name, *[TableCell(NO_VALUE)] * 6, runs)
    limit = "" if c.rank.can_reach_five_percent else f"cannot be below {c.rank.least_p:.3g}"
    return (
        name,
        TableCell(format_number(d.mean, digits, sign=True)),
        TableCell(format_interval(d.ci95, digits, of_patients, sign=True)),
        TableCell(format_interval(d.ci95_runs, digits, of_runs, sign=True))
        if c.runs > 1
        else TableCell(NO_VALUE, "one run"),
        TableCell(format_p(c.rank.p), limit),
        TableCell(format_p(c.p_holm)),
        TableCell(str(d.patients), f"{c.rank.zeros} equal" if c.rank.zeros else ""),
        runs,
    )


def _make_record(scores: Scores, c: Comparison) -> dict[str, object]:
    return {
        "test": c.endpoint.test.name,
        "organ": c.endpoint.organ,
        "metric": c.metric.key,
        **c.group._asdict(),
        **scores.privileges(c.group.method),
        "baseline": scores.results.baseline,
        "runs": c.runs,
        "runs_planned": c.planned,
        **summary_to_dict(c.difference, "difference"),
        "patients_equal": c.rank.zeros,
        "p": c.rank.p,
        "p_least_possible": c.rank.least_p,
        "p_holm": c.p_holm,
        "p_holm_least_possible": c.least_p_holm,
        "comparisons_in_family": c.family,
    }
