"""`frugalseg study status`: how far a study is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from frugalseg.options import StudyStatusOptions
from frugalseg.records.study import GridRecord, JobState, StudyRecord
from frugalseg.studies.jobs.job import kind_of
from frugalseg.studies.jobs.job_progress import in_words, read_job_progress, seconds_left
from frugalseg.studies.jobs.state import GRID, LOCK, SETTINGS, read_state, someone_at_work
from frugalseg.studies.report.results import StudyResults, collect
from frugalseg.text import pluralize

STATES = ("done", "running", "failed", "waiting")
NOBODY = "not running; rerun the same `frugalseg study` command to resume"
UNKNOWN = "running or not is unknown on this file system: the states are those that the jobs last recorded"


def study_status(options: StudyStatusOptions) -> str:
    """Print how far the study is; returns what was printed.

    Raises:
        RunError: there is no study in the folder.
    """
    console = Console(highlight=False)
    with console.capture() as capture:
        for part in describe_status(options.folder):
            console.print(part, markup=False, soft_wrap=isinstance(part, str))
    text = capture.get()
    print(text, end="")
    return text


def describe_status(folder: Path) -> list[str | Table]:
    """The status as lines and a table: what is done of what, what runs, what failed, how long it will take."""
    results = collect(folder)
    grid = GridRecord.read(folder / GRID)
    at_work = someone_at_work(folder)
    states = {job: read_state(folder, job) for job in _jobs(grid)}
    counts = results.trials["state"].value_counts()
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
    models = pluralize(len(results.trials), "model")
    parts: list[str | Table] = [f"{results.name}: {told} of {models}", _done_table(results)]
    if at_work is not False:
        parts += [
            _running_line(None if run is None else folder / run, job, states[job])
            for job, run in _jobs(grid).items()
            if states[job].state == "running"
        ]
    if at_work:
        parts.append(f"about {in_words(_left(folder, states))} left")
    elif (results.trials["state"] != "done").any():
        parts.append(NOBODY if at_work is False else f"{UNKNOWN} ({folder / LOCK} cannot be opened)")
    parts += [
        f"failed: {job}: {state.error.splitlines()[0]} ({state.log})"
        for job, state in states.items()
        if state.state == "failed"
    ]
    return parts


def _running_line(run: Path | None, job: str, state: JobState) -> str:
    how_far = "making masks" if run is None else read_job_progress(run).text
    return f"running: {job}: {how_far}, for {in_words(time.time() - state.started)}"


def _done_table(results: StudyResults) -> Table:
    """Methods × budgets: models done of models planned."""
    table = Table("method", *results.budgets, title="done / planned", title_justify="left")
    done = results.trials.assign(done=results.trials["state"] == "done")
    for method in results.methods:
        mine = done[done["method"] == method]
        per_budget = (mine[mine["budget"] == budget]["done"] for budget in results.budgets)
        table.add_row(method, *(f"{int(column.sum())} / {len(column)}" for column in per_budget))
    return table


def _jobs(grid: GridRecord) -> dict[str, str | None]:
    """Job id → folder of its training (of the model it goes on with; None without one), of all jobs but preparing."""
    jobs: dict[str, str | None] = {}
    for trial in grid.trials:
        if trial.pretrain is not None:
            jobs[trial.pretrain.id] = trial.pretrain.folder
        jobs[trial.id] = trial.folder
    return jobs


def _left(folder: Path, states: Mapping[str, JobState]) -> float | None:
    took: dict[str, list[float]] = {}
    for job, state in states.items():
        if state.state == "done":
            took.setdefault(kind_of(job), []).append(state.seconds)
    to_do = [kind_of(job) for job, state in states.items() if state.state not in {"done", "failed"}]
    return seconds_left(took, to_do, StudyRecord.read(folder / SETTINGS).jobs)
