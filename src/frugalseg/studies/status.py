"""`frugalseg study status`: the progress of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from frugalseg.options import StudyStatusOptions
from frugalseg.records.study import GridRecord, JobState, StudyRecord
from frugalseg.studies.jobs.job import runtime_group
from frugalseg.studies.jobs.job_progress import estimate_seconds_left, format_duration, read_job_progress
from frugalseg.studies.jobs.state import GRID, LOCK, SETTINGS, is_study_running, read_state
from frugalseg.studies.report.results import TRIAL_STATES, StudyResults, collect_results
from frugalseg.text import pluralize

NOT_RUNNING = "not running; rerun the same `frugalseg study` command to resume"
RUNNING_UNKNOWN = "whether the study is running is unknown; shown are the states that the jobs last recorded"


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """The progress of a study.

    Attributes:
        name: of the plan.
        runs: state of a run → how many there are: waiting, running, done, failed.
        running: whether a process works on the study; None where that is unknown.
        failed: job → the first line of its error.
        text: all this for people.
    """

    name: str
    runs: dict[str, int]
    running: bool | None
    failed: dict[str, str]
    text: str = field(repr=False)


def study_status(options: StudyStatusOptions) -> StudyStatus:
    """Print and return the progress of a study.

    Raises:
        RunError: the folder holds no study.
    """
    results = collect_results(options.folder, with_cases=False)
    grid = GridRecord.read(options.folder / GRID)
    is_running = is_study_running(options.folder)
    states = {job: read_state(options.folder, job) for job in _list_jobs(grid)}
    console = Console(highlight=False)
    with console.capture() as capture:
        for part in _describe_status(options.folder, results, grid, is_running, states):
            console.print(part, markup=False, soft_wrap=isinstance(part, str))
    print(capture.get(), end="")
    return StudyStatus(
        name=results.name,
        runs={str(state): int(count) for state, count in results.trials["state"].value_counts().items()},
        running=is_running,
        failed={job: state.error.splitlines()[0] for job, state in states.items() if state.state == "failed"},
        text=capture.get(),
    )


def _describe_status(
    folder: Path,
    results: StudyResults,
    grid: GridRecord,
    is_running: bool | None,
    states: Mapping[str, JobState],
) -> list[str | Table]:
    """The status as lines and a table: counts by state, running jobs, failed jobs and the estimated time left."""
    counts = results.trials["state"].value_counts()
    state_counts = ", ".join(f"{counts[state]} {state}" for state in TRIAL_STATES if state in counts)
    planned = pluralize(len(results.trials), "run")
    parts: list[str | Table] = [f"{results.name}: {state_counts} of {planned}", _make_done_table(results)]
    if is_running is not False:
        parts += [
            _describe_running(None if run is None else folder / run, job, states[job])
            for job, run in _list_jobs(grid).items()
            if states[job].state == "running"
        ]
    if is_running:
        parts.append(f"about {format_duration(_estimate_left(folder, states))} left")
    elif (results.trials["state"] != "done").any():
        parts.append(NOT_RUNNING if is_running is False else f"{RUNNING_UNKNOWN} ({folder / LOCK} cannot be opened)")
    parts += [
        f"failed: {job}: {state.error.splitlines()[0]} ({state.log})"
        for job, state in states.items()
        if state.state == "failed"
    ]
    return parts


def _describe_running(run: Path | None, job: str, state: JobState) -> str:
    progress = "making masks" if run is None else read_job_progress(run).text
    return f"running: {job}: {progress}, for {format_duration(time.time() - state.started)}"


def _make_done_table(results: StudyResults) -> Table:
    """Methods × budgets: runs done and planned."""
    table = Table("method", *results.budgets, title="done / planned", title_justify="left")
    done = results.trials.assign(done=results.trials["state"] == "done")
    for method in results.methods:
        of_method = done[done["method"] == method]
        per_budget = (of_method[of_method["budget"] == budget]["done"] for budget in results.budgets)
        table.add_row(method, *(f"{int(column.sum())} / {len(column)}" for column in per_budget))
    return table


def _list_jobs(grid: GridRecord) -> dict[str, str | None]:
    """Job id → run folder of its training, or of the (first) model whose masks it processes (None without a model).

    Preparation jobs are left out.
    """
    jobs: dict[str, str | None] = {}
    for trial in grid.trials:
        for model in trial.models:
            if model.pretrain is not None:
                jobs[model.pretrain.id] = model.pretrain.folder
        jobs[trial.id] = trial.models[0].folder if trial.models else None
    return jobs


def _estimate_left(folder: Path, states: Mapping[str, JobState]) -> float | None:
    took: dict[str, list[float]] = {}
    for job, state in states.items():
        if state.state == "done":
            took.setdefault(runtime_group(job), []).append(state.seconds)
    to_do = [runtime_group(job) for job, state in states.items() if state.state not in {"done", "failed"}]
    return estimate_seconds_left(took, to_do, StudyRecord.read(folder / SETTINGS).jobs)
