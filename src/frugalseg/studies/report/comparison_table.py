"""The table of comparisons with the baseline."""

from __future__ import annotations

import pandas as pd

from frugalseg.evaluation.metric_table import Better, Metric
from frugalseg.evaluation.statistics import FEWEST_PATIENTS
from frugalseg.studies.report.comparison import Comparison, compare_with_baseline
from frugalseg.studies.report.formatting import (
    describe,
    file_name,
    interval_text,
    label,
    notes_of,
    p_text,
    sections_of,
    summary_record,
    usual_kind,
    usual_note,
)
from frugalseg.studies.report.scores import Endpoint, Scores
from frugalseg.studies.report.table import GAP, Entry, Section, Table
from frugalseg.text import format_number

READING = {Better.HIGHER: " (above 0 is better)", Better.LOWER: " (below 0 is better)", Better.NEITHER: ""}
"""Which differences speak for a method, in a title."""


def comparison_table(scores: Scores, endpoint: Endpoint, metric: Metric) -> Table | None:
    """Every method against the baseline: difference, intervals, p; None where only the baseline was planned."""
    comparisons = compare_with_baseline(scores, endpoint, metric)
    if not comparisons:
        return None
    first = comparisons[0]
    of_patients = usual_kind(c.difference.ci95 for c in comparisons)
    of_runs = usual_kind(c.difference.ci95_runs for c in comparisons if c.runs > 1)
    hopeless = (
        f"No corrected p of this table can be below {first.least_p_holm:.3g}: too many comparisons for so few patients."
        if first.least_p_holm >= 0.05
        else ""
    )
    sections = tuple(
        Section(
            f"{backbone}, {budget}",
            tuple(
                _comparison_row(scores, c, metric, of_patients, of_runs)
                for c in comparisons
                if (c.group.backbone, c.group.budget) == (backbone, budget)
            ),
        )
        for backbone, budget in sections_of(scores)
    )
    return Table(
        name=file_name(f"comparison {endpoint.test.name} {endpoint.organ} {metric.key}"),
        title=f"{metric.title} of {endpoint.organ} on {describe(scores, endpoint)}: difference to "
        f"{scores.results.baseline}{READING[metric.better]}",
        words=1,
        spans=(),
        columns=("Method", "Difference", "CI patients", "CI patients and runs", "p", "p Holm", "Patients", "Runs"),
        sections=tuple(s for s in sections if s.rows),
        notes=notes_of(
            scores,
            "Paired by patient and by run (draw, seed), on the runs that both methods have finished. CI: 95% interval "
            "of the mean difference.",
            f"CI patients: with other patients.{usual_note(of_patients)}",
            f"CI patients and runs: with other patients, draws and seeds.{usual_note(of_runs)}",
            "p: two-sided Wilcoxon signed-rank test over patients on scores averaged over the runs; p Holm: corrected "
            f"over the {first.family} comparisons of this table (all methods, backbones and budgets).",
            f"With fewer than {FEWEST_PATIENTS} patients whose scores differ, p cannot fall below 0.05 whatever the "
            "difference; it is marked there.",
            *([hopeless] if hopeless else []),
        ),
        data=pd.DataFrame([_comparison_record(scores, c) for c in comparisons]),
    )


def _comparison_row(scores: Scores, c: Comparison, metric: Metric, of_patients: str, of_runs: str) -> tuple[Entry, ...]:
    digits, d = metric.digits, c.difference
    runs = Entry(f"{c.runs} of {c.planned}" if c.runs != c.planned else str(c.runs))
    if not c.planned:
        runs = Entry(GAP, f"{scores.results.baseline} not planned")
    name = Entry(label(scores, c.group.method))
    if not c.runs:
        return (name, *[Entry(GAP)] * 6, runs)
    limit = "" if c.rank.can_reach_five_percent else f"cannot be below {c.rank.least_p:.3g}"
    return (
        name,
        Entry(format_number(d.mean, digits, sign=True)),
        Entry(interval_text(d.ci95, digits, of_patients, sign=True)),
        Entry(interval_text(d.ci95_runs, digits, of_runs, sign=True)) if c.runs > 1 else Entry(GAP, "one run"),
        Entry(p_text(c.rank.p), limit),
        Entry(p_text(c.p_holm)),
        Entry(str(d.patients), f"{c.rank.zeros} equal" if c.rank.zeros else ""),
        runs,
    )


def _comparison_record(scores: Scores, c: Comparison) -> dict[str, object]:
    return {
        "test": c.endpoint.test.name,
        "organ": c.endpoint.organ,
        "metric": c.metric.key,
        **c.group._asdict(),
        **scores.privileges(c.group.method),
        "baseline": scores.results.baseline,
        "runs": c.runs,
        "runs_planned": c.planned,
        **summary_record(c.difference, "difference"),
        "patients_equal": c.rank.zeros,
        "p": c.rank.p,
        "p_least_possible": c.rank.least_p,
        "p_holm": c.p_holm,
        "p_holm_least_possible": c.least_p_holm,
        "comparisons_in_family": c.family,
    }
