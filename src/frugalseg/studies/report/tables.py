"""The tables of a study: results in and across domains, comparisons with the baseline, cost, missing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import pandas as pd

from frugalseg.evaluation.metric_table import DICE, Metric
from frugalseg.studies.report.comparison_table import comparison_table
from frugalseg.studies.report.costs import cost_table, missing_runs_table
from frugalseg.studies.report.formatting import (
    describe_endpoint,
    find_usual_kind,
    format_interval,
    format_method,
    format_missing_runs,
    format_usual_kind,
    list_sections,
    make_notes,
    summary_to_dict,
    to_file_name,
)
from frugalseg.studies.report.scores import Endpoint, Group, Scores, list_test_metrics
from frugalseg.studies.report.table import NO_VALUE, Section, Table, TableCell, rank_column
from frugalseg.text import format_number

_RANKED = "The best of a column is bold, the second underlined, if every run of every method is finished."
_MEAN = "Mean over patients, ± standard deviation over the runs (draws of the labels × seeds)."


@dataclass(frozen=True)
class StudyTables:
    """All tables of a study, by content; a tuple is empty if there is nothing to show."""

    in_domain: tuple[Table, ...]
    cross_domain: tuple[Table, ...]
    labels: tuple[Table, ...]
    comparisons: tuple[Table, ...]
    others: tuple[Table, ...]
    cost: tuple[Table, ...]
    missing_runs: tuple[Table, ...]

    def list_tables(self) -> list[Table]:
        """All tables, in the report's order."""
        return [table for field in fields(self) for table in getattr(self, field.name)]


def build_tables(scores: Scores) -> StudyTables:
    """Build all tables of a study from its finished trials."""
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
            table
            for q in scores.endpoints
            for metric in _headline_metrics(q)
            if (table := comparison_table(scores, q, metric))
        ),
        others=tuple(other_metrics_table(scores, q) for q in scores.endpoints),
        cost=(cost_table(scores),) if len(scores.results.trials) else (),
        missing_runs=(missing,) if (missing := missing_runs_table(scores)) else (),
    )
    return _make_names_unique(tables)


def in_domain_table(scores: Scores, endpoint: Endpoint) -> Table:
    """Methods in rows, grouped by backbone; the headline metrics at every budget in columns."""
    columns = [
        (budget, endpoint, metric) for budget in scores.results.budgets for metric in _headline_metrics(endpoint)
    ]
    return _make_results_table(
        scores,
        name=f"in-domain {endpoint.test.name} {endpoint.organ}",
        title=f"{endpoint.organ} on {describe_endpoint(scores, endpoint)}, in the training scans' domain",
        spans=tuple((budget, len(_headline_metrics(endpoint))) for budget in scores.results.budgets),
        columns=columns,
        notes=(_MEAN, _RANKED),
        show=_format_mean_and_sd,
    )


def cross_domain_table(scores: Scores, endpoints: Sequence[Endpoint], budget: str) -> Table:
    """Methods in rows, grouped by backbone; the headline metrics on every test set of another domain in columns."""
    organ = endpoints[0].organ
    places = "; ".join(describe_endpoint(scores, q) for q in endpoints)
    return _make_results_table(
        scores,
        name=f"cross-domain {organ} {budget}",
        title=f"{organ} in other domains, trained on {budget}: {places}",
        spans=tuple((q.test.name, len(_headline_metrics(q))) for q in endpoints),
        columns=[(budget, q, metric) for q in endpoints for metric in _headline_metrics(q)],
        notes=(_MEAN, _RANKED),
        show=_format_mean_and_sd,
    )


def labels_table(scores: Scores, endpoint: Endpoint) -> Table:
    """Dice at every budget: methods in rows, budgets in columns, with intervals over patients."""
    usual = find_usual_kind(scores.summarise(endpoint, group, DICE).ci95 for group in scores.list_groups())
    return _make_results_table(
        scores,
        name=f"dice-versus-labels {endpoint.test.name} {endpoint.organ}",
        title=f"Dice of {endpoint.organ} on {describe_endpoint(scores, endpoint)}, by budget",
        spans=(),
        columns=[(budget, endpoint, DICE) for budget in scores.results.budgets],
        notes=(
            "Mean over patients and runs, with the 95% interval over patients of the score averaged over the runs."
            + format_usual_kind(usual),
            _RANKED,
        ),
        show=partial(_format_mean_and_interval, usual),
    )


def other_metrics_table(scores: Scores, endpoint: Endpoint) -> Table:
    """The metrics that are not headline figures, and how often the organ was missed completely."""
    metrics = [m for m in list_test_metrics(endpoint.test) if m not in _headline_metrics(endpoint)]
    sections = []
    for backbone, budget in list_sections(scores):
        rows = []
        for method in scores.list_methods(backbone):
            group = Group(method, backbone, budget)
            missed, present = scores.count_missed(endpoint, group)
            entries = [_format_mean_and_sd(scores, endpoint, group, metric) for metric in metrics]
            rows.append(
                (
                    TableCell(format_method(scores, method)),
                    *entries,
                    TableCell(f"{missed} of {present}" if present else NO_VALUE),
                )
            )
        sections.append(Section(f"{backbone}, {budget}", tuple(rows)))
    return Table(
        name=to_file_name(f"other-metrics {endpoint.test.name} {endpoint.organ}"),
        title=f"{endpoint.organ} on {describe_endpoint(scores, endpoint)}: other metrics",
        words=1,
        spans=(),
        columns=("Method", *(m.title for m in metrics), "organ missed"),
        sections=tuple(sections),
        notes=make_notes(
            scores, _MEAN, "Organ missed: in how many of the scans × runs that hold it nothing was found."
        ),
        data=_list_figures(scores, [endpoint], scores.list_groups()),
    )


FormatCell = Callable[[Scores, Endpoint, Group, Metric], TableCell]


def _make_names_unique(tables: StudyTables) -> StudyTables:
    """The tables, with a number appended to names that already occurred, ignoring case."""
    taken: set[str] = set()

    def make_unique(table: Table) -> Table:
        name, n = table.name, 1
        while name.lower() in taken:
            n += 1
            name = f"{table.name}-{n}"
        taken.add(name.lower())
        return replace(table, name=name)

    return StudyTables(**{field.name: tuple(map(make_unique, getattr(tables, field.name))) for field in fields(tables)})


def _make_results_table(
    scores: Scores,
    name: str,
    title: str,
    spans: tuple[tuple[str, int], ...],
    columns: Sequence[tuple[str, Endpoint, Metric]],
    notes: Sequence[str],
    show: FormatCell,
) -> Table:
    """Methods in rows, grouped by backbone; a column is a budget, a test set and a metric."""
    rows = [(backbone, method) for backbone in scores.results.backbones for method in scores.list_methods(backbone)]
    filled = [_make_column(scores, rows, *column, show) for column in columns]
    entries = [
        (TableCell(format_method(scores, method)), *(column[i] for column in filled))
        for i, (_, method) in enumerate(rows)
    ]
    sections = tuple(
        Section(backbone, tuple(e for e, row in zip(entries, rows, strict=True) if row[0] == backbone))
        for backbone in scores.results.backbones
        if scores.list_methods(backbone)
    )
    endpoints = list(dict.fromkeys(endpoint for _, endpoint, _ in columns))
    shown = {budget for budget, _, _ in columns}
    return Table(
        name=to_file_name(name),
        title=title,
        words=1,
        spans=spans,
        columns=("Method", *(metric.title if spans else budget for budget, _, metric in columns)),
        sections=sections,
        notes=make_notes(scores, *notes),
        data=_list_figures(scores, endpoints, [g for g in scores.list_groups() if g.budget in shown]),
    )


def _make_column(
    scores: Scores, rows: Sequence[tuple[str, str]], budget: str, endpoint: Endpoint, metric: Metric, show: FormatCell
) -> list[TableCell]:
    """The cells of a column; ranked only if no run is missing."""
    groups = [Group(method, backbone, budget) for backbone, method in rows]
    entries = [show(scores, endpoint, group, metric) for group in groups]
    if not all(scores.is_complete(endpoint, group) for group in groups):
        return entries
    # Privileged methods solve another task: they are not ranked and do not affect the ranks of the others.
    alike = [not scores.is_privileged(method) for _, method in rows]
    means = [scores.summarise(endpoint, group, metric).mean for group in groups]
    ranks = rank_column(means, metric.digits, metric.better, alike if any(alike) else [True] * len(rows))
    return [TableCell(entry.text, entry.note, rank) for entry, rank in zip(entries, ranks, strict=True)]


def _format_mean_and_sd(scores: Scores, endpoint: Endpoint, group: Group, metric: Metric) -> TableCell:
    summary = scores.summarise(endpoint, group, metric)
    text = format_number(summary.mean, metric.digits)
    if summary.runs > 1:
        text += f" ± {format_number(summary.sd, metric.digits)}"
    return TableCell(text, format_missing_runs(scores, endpoint, group, summary))


def _format_mean_and_interval(
    usual: str, scores: Scores, endpoint: Endpoint, group: Group, metric: Metric
) -> TableCell:
    summary = scores.summarise(endpoint, group, metric)
    notes = [format_interval(summary.ci95, metric.digits, usual)] if summary.patients else []
    if missing := format_missing_runs(scores, endpoint, group, summary):
        notes.append(missing)
    return TableCell(format_number(summary.mean, metric.digits), "; ".join(notes))


def _list_figures(scores: Scores, endpoints: Iterable[Endpoint], groups: Sequence[Group]) -> pd.DataFrame:
    """Every figure in full precision, one row per test set, organ, group and metric."""
    records = []
    for endpoint in endpoints:
        for group in groups:
            missed, present = scores.count_missed(endpoint, group)
            facts = {
                "test": endpoint.test.name,
                "organ": endpoint.organ,
                **group._asdict(),
                **scores.privileges(group.method),
                "runs": scores.count_finished(endpoint, group),
                "runs_planned": scores.planned[group],
                "missed": missed,
                "missed_of": present,
            }
            for metric in list_test_metrics(endpoint.test):
                summary = scores.summarise(endpoint, group, metric)
                records.append(
                    facts | {"metric": metric.key, "runs_with_value": summary.runs} | summary_to_dict(summary, "mean")
                )
    return pd.DataFrame(records)


def _headline_metrics(endpoint: Endpoint) -> tuple[Metric, ...]:
    return tuple(metric for metric in list_test_metrics(endpoint.test) if metric.headline)
