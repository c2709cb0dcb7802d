"""The report of a study: one HTML file to read and send, and every table as CSV and LaTeX for papers."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from frugalseg._version import __version__
from frugalseg.engine.files import atomic_write
from frugalseg.evaluation.page import make_page_environment
from frugalseg.evaluation.statistics import describe_interval_rule
from frugalseg.records.study import TableList
from frugalseg.studies.jobs.equivalent_runs import told_once
from frugalseg.studies.report.conclusions import conclude
from frugalseg.studies.report.curves import bands_note, dice_curves
from frugalseg.studies.report.formatting import describe, label, meanings
from frugalseg.studies.report.latex import to_latex
from frugalseg.studies.report.results import StudyResults
from frugalseg.studies.report.scores import Scores
from frugalseg.studies.report.table import Table
from frugalseg.studies.report.tables import StudyTables, study_tables

REPORT, TABLES, INDEX, PLAN = "report.html", "tables", "tables.json", "plan.yaml"
STATES = ("done", "running", "failed", "waiting")


def write_report(results: StudyResults, folder: Path, resamples: int = 10_000, seed: int = 0) -> Path:
    """Write report.html and tables/ of a study, finished or not; older ones are replaced.

    tables/tables.json lists the tables. Tables of an older report that this one does not have are removed; no other
    file is touched.

    Args:
        results: of the study.
        folder: of the study; its plan.yaml is shown where there is one.
        resamples, seed: of the bootstrap; one seed gives one report.

    Returns:
        Where report.html lies.

    Raises:
        DiskError: the folder cannot be written.
    """
    scores = Scores(results, resamples, seed)
    tables = study_tables(scores)
    write_table_files(tables.every(), folder / TABLES)
    with atomic_write(folder / REPORT, "w") as file:
        file.write(render_report(scores, tables, _plan(folder)))
    return folder / REPORT


def write_table_files(tables: list[Table], folder: Path) -> None:
    """Write every table as NAME.csv in full precision and NAME.tex for a paper, and the list of them.

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


def render_report(scores: Scores, tables: StudyTables, plan: str | None = None) -> str:
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
        commits=_commits(results),
        states={state: int(states.get(state, 0)) for state in STATES},
        planned=len(results.trials),
        labels={method: label(scores, method) for method in results.methods},
        meanings=meanings(scores),
        told_once=told_once(results.trials),
        conclusions=[conclude(scores, endpoint) for endpoint in scores.endpoints],
        measured={q.test.name: describe(scores, q) for q in scores.endpoints},
        tables=tables,
        curves=dice_curves(scores),
        bands=bands_note(scores),
        interval=describe_interval_rule("patient", scores.resamples, scores.seed),
        plan=plan,
        version=__version__,
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    return page


def _commits(results: StudyResults) -> list[str]:
    """The commits that the finished models were trained with."""
    done = results.trials.loc[results.trials["state"] == "done", "commit"]
    return sorted({str(commit) or "unknown" for commit in done})


def _plan(folder: Path) -> str | None:
    path = folder / PLAN
    return path.read_text(encoding="utf-8") if path.exists() else None
