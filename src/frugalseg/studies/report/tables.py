"""The tables of a study: results in and across domains, comparisons with the baseline, cost, gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import pandas as pd

from frugalseg.evaluation.metric_table import DICE, Metric
from frugalseg.studies.report.comparison_table import comparison_table
from frugalseg.studies.report.costs import cost_table, missing_runs_table
from frugalseg.studies.report.formatting import (
    describe,
    file_name,
    interval_text,
    label,
    notes_of,
    runs_note,
    sections_of,
    summary_record,
    usual_kind,
    usual_note,
)
from frugalseg.studies.report.scores import Endpoint, Group, Scores, metrics_of
from frugalseg.studies.report.table import GAP, Entry, Section, Table, rank_column
from frugalseg.text import format_number

_RANKED = "Best of a column bold, second underlined, where every run of every method is finished."
_MEAN = "Mean over patients, ± standard deviation over the runs (draws of the labels × seeds)."


@dataclass(frozen=True)
class StudyTables:
    """All tables of a study, by what they show; a tuple is empty where there is nothing to show."""

    in_domain: tuple[Table, ...]
    cross_domain: tuple[Table, ...]
    labels: tuple[Table, ...]
    comparisons: tuple[Table, ...]
    others: tuple[Table, ...]
    cost: tuple[Table, ...]
    missing_runs: tuple[Table, ...]

    def every(self) -> list[Table]:
        """All of them, in the report's order."""
        return [table for field in fields(self) for table in getattr(self, field.name)]


def study_tables(scores: Scores) -> StudyTables:
    """Build every table that the finished trials allow."""
    inside = [q for q in scores.endpoints if q.test.in_domain]
    across = [q for q in scores.endpoints if not q.test.in_domain]
    organs = list(dict.fromkeys(q.organ for q in across))
    budgets = scores.results.budgets if scores.planned else ()
    tables = StudyTables(
        in_domain=tuple(in_domain_table(scores, q) for q in inside),
        cross_domain=tuple(
            cross_domain_table(scores, [q for q in across if q.organ == organ], budget)
            for organ in organs
            for budget in budgets
        ),
        labels=tuple(labels_table(scores, q) for q in scores.endpoints),
        comparisons=tuple(
            table for q in scores.endpoints for metric in _headline(q) if (table := comparison_table(scores, q, metric))
        ),
        others=tuple(other_metrics_table(scores, q) for q in scores.endpoints),
        cost=(cost_table(scores),) if len(scores.results.trials) else (),
        missing_runs=(missing,) if (missing := missing_runs_table(scores)) else (),
    )
    return _told_apart(tables)


def in_domain_table(scores: Scores, endpoint: Endpoint) -> Table:
    """Methods in rows, grouped by backbone; the headline metrics at every budget in columns."""
    columns = [(budget, endpoint, metric) for budget in scores.results.budgets for metric in _headline(endpoint)]
    return _results_table(
        scores,
        name=f"in-domain {endpoint.test.name} {endpoint.organ}",
        title=f"{endpoint.organ} on {describe(scores, endpoint)}, in the training scans' domain",
        spans=tuple((budget, len(_headline(endpoint))) for budget in scores.results.budgets),
        columns=columns,
        notes=(_MEAN, _RANKED),
        show=_mean_and_sd,
    )


def cross_domain_table(scores: Scores, endpoints: Sequence[Endpoint], budget: str) -> Table:
    """Methods in rows, grouped by backbone; the headline metrics on every test set of another domain in columns."""
    organ = endpoints[0].organ
    places = "; ".join(describe(scores, q) for q in endpoints)
    return _results_table(
        scores,
        name=f"cross-domain {organ} {budget}",
        title=f"{organ} in other domains, trained on {budget}: {places}",
        spans=tuple((q.test.name, len(_headline(q))) for q in endpoints),
        columns=[(budget, q, metric) for q in endpoints for metric in _headline(q)],
        notes=(_MEAN, _RANKED),
        show=_mean_and_sd,
    )


def labels_table(scores: Scores, endpoint: Endpoint) -> Table:
    """Dice against labels: methods in rows, budgets in columns, with intervals over patients."""
    usual = usual_kind(scores.summary(endpoint, group, DICE).ci95 for group in scores.groups())
    return _results_table(
        scores,
        name=f"dice-versus-labels {endpoint.test.name} {endpoint.organ}",
        title=f"Dice of {endpoint.organ} on {describe(scores, endpoint)}, by what was annotated",
        spans=(),
        columns=[(budget, endpoint, DICE) for budget in scores.results.budgets],
        notes=(
            "Mean over patients and runs, with the 95% interval over patients of the score averaged over the runs."
            + usual_note(usual),
            _RANKED,
        ),
        show=partial(_mean_and_interval, usual),
    )


def other_metrics_table(scores: Scores, endpoint: Endpoint) -> Table:
    """The metrics that the other tables leave out, and how often the organ was missed altogether."""
    metrics = [m for m in metrics_of(endpoint.test) if m not in _headline(endpoint)]
    sections = []
    for backbone, budget in sections_of(scores):
        rows = []
        for method in scores.rows(backbone):
            group = Group(method, backbone, budget)
            missed, present = scores.missed(endpoint, group)
            entries = [_mean_and_sd(scores, endpoint, group, metric) for metric in metrics]
            rows.append((Entry(label(scores, method)), *entries, Entry(f"{missed} of {present}" if present else GAP)))
        sections.append(Section(f"{backbone}, {budget}", tuple(rows)))
    return Table(
        name=file_name(f"other-metrics {endpoint.test.name} {endpoint.organ}"),
        title=f"{endpoint.organ} on {describe(scores, endpoint)}: other metrics",
        words=1,
        spans=(),
        columns=("Method", *(m.title for m in metrics), "organ missed"),
        sections=tuple(sections),
        notes=notes_of(scores, _MEAN, "Organ missed: in how many of the scans × runs that hold it nothing was found."),
        data=_figures(scores, [endpoint], scores.groups()),
    )


Show = Callable[[Scores, Endpoint, Group, Metric], Entry]


def _told_apart(tables: StudyTables) -> StudyTables:
    """The tables with a number behind names that another has already, be it in other letter cases."""
    taken: set[str] = set()

    def apart(table: Table) -> Table:
        name, n = table.name, 1
        while name.lower() in taken:
            n += 1
            name = f"{table.name}-{n}"
        taken.add(name.lower())
        return replace(table, name=name)

    return StudyTables(**{field.name: tuple(map(apart, getattr(tables, field.name))) for field in fields(tables)})


def _results_table(
    scores: Scores,
    name: str,
    title: str,
    spans: tuple[tuple[str, int], ...],
    columns: Sequence[tuple[str, Endpoint, Metric]],
    notes: Sequence[str],
    show: Show,
) -> Table:
    """Methods in rows, grouped by backbone; a column is a budget, a test set and a metric."""
    rows = [(backbone, method) for backbone in scores.results.backbones for method in scores.rows(backbone)]
    filled = [_column(scores, rows, *column, show) for column in columns]
    entries = [(Entry(label(scores, method)), *(column[i] for column in filled)) for i, (_, method) in enumerate(rows)]
    sections = tuple(
        Section(backbone, tuple(e for e, row in zip(entries, rows, strict=True) if row[0] == backbone))
        for backbone in scores.results.backbones
        if scores.rows(backbone)
    )
    endpoints = list(dict.fromkeys(endpoint for _, endpoint, _ in columns))
    shown = {budget for budget, _, _ in columns}
    return Table(
        name=file_name(name),
        title=title,
        words=1,
        spans=spans,
        columns=("Method", *(metric.title if spans else budget for budget, _, metric in columns)),
        sections=sections,
        notes=notes_of(scores, *notes),
        data=_figures(scores, endpoints, [g for g in scores.groups() if g.budget in shown]),
    )


def _column(
    scores: Scores, rows: Sequence[tuple[str, str]], budget: str, endpoint: Endpoint, metric: Metric, show: Show
) -> list[Entry]:
    """The entries of a column; ranked only where nothing is missing from it."""
    groups = [Group(method, backbone, budget) for backbone, method in rows]
    entries = [show(scores, endpoint, group, metric) for group in groups]
    if not all(scores.complete(endpoint, group) for group in groups):
        return entries
    # Marked methods answer another question, so they neither win nor push another off its place.
    alike = [not scores.is_privileged(method) for _, method in rows]
    means = [scores.summary(endpoint, group, metric).mean for group in groups]
    ranks = rank_column(means, metric.digits, metric.better, alike if any(alike) else [True] * len(rows))
    return [Entry(entry.text, entry.note, rank) for entry, rank in zip(entries, ranks, strict=True)]


def _mean_and_sd(scores: Scores, endpoint: Endpoint, group: Group, metric: Metric) -> Entry:
    summary = scores.summary(endpoint, group, metric)
    text = format_number(summary.mean, metric.digits)
    if summary.runs > 1:
        text += f" ± {format_number(summary.sd, metric.digits)}"
    return Entry(text, runs_note(scores, endpoint, group, summary))


def _mean_and_interval(usual: str, scores: Scores, endpoint: Endpoint, group: Group, metric: Metric) -> Entry:
    summary = scores.summary(endpoint, group, metric)
    notes = [interval_text(summary.ci95, metric.digits, usual)] if summary.patients else []
    if missing := runs_note(scores, endpoint, group, summary):
        notes.append(missing)
    return Entry(format_number(summary.mean, metric.digits), "; ".join(notes))


def _figures(scores: Scores, endpoints: Iterable[Endpoint], groups: Sequence[Group]) -> pd.DataFrame:
    """Every figure in full precision, one row a test set, organ, group and metric."""
    records = []
    for endpoint in endpoints:
        for group in groups:
            missed, present = scores.missed(endpoint, group)
            facts = {
                "test": endpoint.test.name,
                "organ": endpoint.organ,
                **group._asdict(),
                **scores.privileges(group.method),
                "runs": scores.finished(endpoint, group),
                "runs_planned": scores.planned[group],
                "missed": missed,
                "missed_of": present,
            }
            for metric in metrics_of(endpoint.test):
                summary = scores.summary(endpoint, group, metric)
                records.append(
                    facts | {"metric": metric.key, "runs_with_value": summary.runs} | summary_record(summary, "mean")
                )
    return pd.DataFrame(records)


def _headline(endpoint: Endpoint) -> tuple[Metric, ...]:
    return tuple(metric for metric in metrics_of(endpoint.test) if metric.headline)
