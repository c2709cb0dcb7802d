"""The report of a study: one HTML file, and every table as CSV and LaTeX."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from frugalseg._version import __version__
from frugalseg.engine.files import atomic_write
from frugalseg.evaluation.page import make_page_environment
from frugalseg.evaluation.statistics import describe_interval_rule
from frugalseg.records.study import TableList
from frugalseg.studies.jobs.equivalent_runs import describe_equivalent_runs
from frugalseg.studies.report.conclusions import conclude
from frugalseg.studies.report.curves import describe_bands, draw_dice_curves
from frugalseg.studies.report.forecast import describe_forecasts
from frugalseg.studies.report.formatting import describe_endpoint, explain_marks, format_method
from frugalseg.studies.report.latex import to_latex
from frugalseg.studies.report.results import PLAN, TRIAL_STATES, StudyResults
from frugalseg.studies.report.scores import Scores
from frugalseg.studies.report.table import Table
from frugalseg.studies.report.tables import StudyTables, build_tables
from frugalseg.studies.report.unlearned import describe_unlearned

REPORT, TABLES, INDEX = "report.html", "tables", "tables.json"


def write_report(results: StudyResults, folder: Path, resamples: int = 10_000, seed: int = 0) -> Path:
    """Write report.html and tables/ of a study, finished or not, replacing older ones.

    tables/tables.json lists the tables. Tables of an older report that no longer exist are removed; no other file is
    changed.

    Args:
        results: of the study.
        folder: of the study; its plan.yaml is shown if it exists.
        resamples, seed: of the bootstrap; one seed gives one report.

    Returns:
        The path of report.html.

    Raises:
        DiskError: the folder cannot be written.
    """
    scores = Scores(results, resamples, seed)
    tables = build_tables(scores)
    write_table_files(tables.list_tables(), folder / TABLES)
    with atomic_write(folder / REPORT, "w") as file:
        file.write(render_study_report(scores, tables, _read_plan_text(folder)))
    return folder / REPORT


def write_table_files(tables: list[Table], folder: Path) -> None:
    """Write every table as NAME.csv in full precision and as NAME.tex, and the list of the tables.

    Raises:
        DiskError: the folder cannot be written.
    """
    index = folder / INDEX
    older = set(TableList.read(index).tables) if index.exists() else set()
    named = {table.name: table for table in tables}
    for name, table in named.items():
        with atomic_write(folder / f"{name}.csv", "w") as file:
            table.data.to_csv(file, index=False)
        with atomic_write(folder / f"{name}.tex", "w") as file:
            file.write(to_latex(table))
    TableList({name: table.title for name, table in named.items()}).write(index)
    for name in older - set(named):
        for ending in (".csv", ".tex"):
            (folder / f"{Path(name).name}{ending}").unlink(missing_ok=True)


def render_study_report(scores: Scores, tables: StudyTables, plan: str | None = None) -> str:
    """The report as one HTML document.

    Args:
        scores: of the study.
        tables: of the same scores.
        plan: text of plan.yaml, or None.
    """
    results = scores.results
    states = results.trials["state"].value_counts()
    template = make_page_environment().get_template("studies/report/report.html.j2")
    page: str = template.render(
        results=results,
        commits=_list_commits(results),
        states={state: int(states.get(state, 0)) for state in TRIAL_STATES},
        planned=len(results.trials),
        labels={method: format_method(scores, method) for method in results.methods},
        meanings=explain_marks(scores),
        equivalent_runs=describe_equivalent_runs(results.trials),
        unlearned=describe_unlearned(results.trials),
        conclusions=[conclude(scores, endpoint) for endpoint in scores.endpoints],
        measured={q.test.name: describe_endpoint(scores, q) for q in scores.endpoints},
        tables=tables,
        curves=draw_dice_curves(scores),
        bands=describe_bands(scores),
        forecasts=describe_forecasts(scores),
        interval=describe_interval_rule("patient", scores.resamples, scores.seed),
        plan=plan,
        version=__version__,
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    return page


def _list_commits(results: StudyResults) -> list[str]:
    """The commits of frugalseg that the finished models were trained with; masks made without training have none."""
    trials = results.trials
    commits = trials.loc[(trials["state"] == "done") & trials["trained"].eq(True), "commit"]
    # Averaged models have the commits of all of them.
    return sorted({commit or "unknown" for listed in commits for commit in str(listed).split(", ")})


def _read_plan_text(folder: Path) -> str | None:
    path = folder / PLAN
    return path.read_text(encoding="utf-8") if path.exists() else None
