"""`frugalseg study`: run a plan and report on it; resumable. `frugalseg report`: write the report again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import yaml

from frugalseg._version import __version__
from frugalseg.dataset.budget import Budget
from frugalseg.engine.files import atomic_write, check_out
from frugalseg.engine.launch import require_one_process
from frugalseg.engine.progress import say
from frugalseg.engine.threads import requested_threads, usable_cores
from frugalseg.errors import OptionError, RunError, disk_errors
from frugalseg.options import ReportOptions, StudyOptions
from frugalseg.records.study import StudyRecord
from frugalseg.studies.jobs.datasets import StudyDataset, check_data, locate_scans, resolve_datasets
from frugalseg.studies.jobs.grid import Grid, build_grid, write_grid
from frugalseg.studies.jobs.job import EvaluatedJob, Job, ModelJob, PretrainJob
from frugalseg.studies.jobs.progress import ProgressDisplay
from frugalseg.studies.jobs.scheduler import Schedule, run_jobs
from frugalseg.studies.jobs.state import GRID, LOCK, SETTINGS, is_done, lock_study
from frugalseg.studies.jobs.trial_builder import Trial
from frugalseg.studies.jobs.workers import LocalWorkers, Workers, list_visible_gpus
from frugalseg.studies.plan.plan import StudyPlan
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.shipped import find_plan
from frugalseg.studies.plan.yaml_source import YamlValue, flags_to_keys
from frugalseg.studies.report.report import write_report
from frugalseg.studies.report.results import PLAN, collect_results, write_tables
from frugalseg.text import pluralize


def study(options: StudyOptions) -> Path:
    """Run every job of a plan that is not done; return and print the path of the report.

    Raises:
        OptionError: the plan is wrong, or its data cannot be prepared; the line is named, and nothing was trained.
        RunError: another process works on `out`; or jobs failed (raised after all other jobs are done and reported).
        DiskError: `out` cannot be created or written.
        InterruptedRunError: the user stopped the study; the same command resumes it.
    """
    require_one_process("A study starts its own processes")
    check_out(options.out)
    file = find_plan(options.plan)
    plan = read_plan(file, options.study)
    wanted = _parse_only(options.only, plan)
    out = options.out.resolve()
    with disk_errors(out):
        _check_folder(out)
    with lock_study(out), closing(_make_workers(options, out)) as workers:
        if not (out / SETTINGS).is_file():
            _write_settings(out, options, file, workers)  # this makes the folder a study
        datasets = resolve_datasets(plan, out)
        _run_preparations([(source.job, source.entry) for source in datasets.values()], out, workers)
        check_data(plan, datasets)
        _run_preparations(list_mask_preparations(plan, datasets, out), out, workers)
        grid = build_grid(plan, datasets, out, workers.threads)
        _write_settings(out, options, file, workers)
        _write_plan(out, plan)  # together with the grid: a plan that is refused changes neither
        write_grid(out / GRID, grid, plan)
        try:
            progress = _run_trials(grid, [trial for trial in grid.trials if wanted(trial)], out, workers)
        finally:
            path = _write_results(out)
    print(path)
    if failed := progress.failed_jobs():
        raise RunError(
            f"{len(failed)} of {pluralize(len(progress.jobs), 'job')} failed; the report lists the missing runs",
            f"see `frugalseg study status {options.out}`; run the same command again to retry them",
        )
    return path


def report(options: ReportOptions) -> Path:
    """Write the tables and the report of a study again, from the finished runs; returns the report's path."""
    path = _write_results(options.folder.resolve())
    print(path)
    return path


def _write_results(out: Path) -> Path:
    results = collect_results(out)
    write_tables(results, out)
    return write_report(results, out)


def _check_folder(out: Path) -> None:
    if out.is_dir() and ((out / SETTINGS).is_file() or all(entry.name == LOCK for entry in out.iterdir())):
        return
    if out.exists():
        raise RunError(f"{out} is not the folder of a study", "choose another --out")


def _parse_only(texts: Sequence[str], plan: StudyPlan) -> Callable[[Trial], bool]:
    """The filter of trials by `--only`: every key must match; a key given twice allows both values.

    Raises:
        OptionError: a key or a value that is not in the plan.
    """
    known = {
        "method": [method.name for method in plan.methods],
        "backbone": plan.backbones,
        "budget": plan.budgets,
        "draw": plan.draws,
        "seed": plan.seeds,
    }
    chosen: dict[str, set[str]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known:
            raise OptionError(f"--only {text!r} has no known key", f"write {', '.join(f'{k}=…' for k in known)}")
        choices = [str(v) for v in known[key]]
        if key == "budget":  # 1 scan is `1 scans` in a plan
            with suppress(OptionError):
                value = str(Budget.parse(value, none=True))
        if value not in choices:
            raise OptionError(f"--only {text!r}: the plan has no such {key}", f"choose from: {', '.join(choices)}")
        chosen.setdefault(key, set()).add(value)
    return lambda trial: all(values & _grid_values(trial, key) for key, values in chosen.items())


def _grid_values(trial: Trial, key: str) -> set[str]:
    """The values of a trial for one key of the grid; several where it represents several draws or seeds."""
    values = {"draw": trial.runs.draws, "seed": trial.runs.seeds}.get(key) or (getattr(trial, key),)
    return {str(value) for value in values}


def _make_workers(options: StudyOptions, out: Path) -> Workers:
    threads = options.threads or requested_threads() or max(1, usable_cores() // (options.jobs or 1))
    if options.ray is not None:
        from frugalseg.studies.jobs.ray_workers import RayWorkers

        return RayWorkers(out, options.ray, options.jobs, threads if options.ray == "local" else options.threads)
    return LocalWorkers(out, options.jobs or 1, threads, list_visible_gpus())


def _write_settings(out: Path, options: StudyOptions, plan: Path, workers: Workers) -> None:
    StudyRecord(
        jobs=workers.at_once,
        version=__version__,
        plan=str(plan.resolve()),
        threads=workers.threads,
        ray=options.ray,
        only=tuple(options.only),
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
    ).write(out / SETTINGS)


def _write_plan(out: Path, plan: StudyPlan) -> None:
    with atomic_write(out / PLAN, "w") as file:
        file.write("# The plan with every default. Run it again with `frugalseg study THIS_FILE --out …`.\n")
        yaml.safe_dump(plan.to_values(), file, sort_keys=False, allow_unicode=True)


def list_mask_preparations(
    plan: StudyPlan, datasets: dict[str, StudyDataset], out: Path
) -> list[tuple[Job, YamlValue]]:
    """The preparation jobs of the mask makers, each with its place in the plan."""
    prepared = (
        method.masks.preparation_job(method.name, locate_scans(plan, test, datasets, out))
        for method in plan.methods
        if method.masks is not None
        for test in plan.tests
    )
    return [preparation for preparation in prepared if preparation is not None]


def _run_preparations(jobs: Sequence[tuple[Job, YamlValue]], out: Path, workers: Workers) -> None:
    """Run the jobs that come before the grid is built.

    Raises:
        OptionError: a job failed; with its place in the plan.
    """
    if not jobs:
        return
    with ProgressDisplay("preparing", workers.at_once) as display:
        progress = run_jobs([job for job, _ in jobs], out, workers, display)
    if failed := progress.failed_jobs():
        entries = {job.id: entry for job, entry in jobs}
        job, state = next(iter(failed.items()))
        problem, _, cure = flags_to_keys(state.error).partition("\n  → ")
        raise entries[job].error(f"cannot be prepared: {problem}", cure or f"see {out / state.log}")


def _run_trials(grid: Grid, trials: Sequence[Trial], out: Path, workers: Workers) -> Schedule:
    jobs = grid.list_jobs(trials)
    done = sum(map(is_done, jobs))
    kinds = {kind: sum(type(job) is kind for job in jobs) for kind in (PretrainJob, ModelJob, EvaluatedJob)}
    further = f", {pluralize(kinds[EvaluatedJob], 'set')} of masks from mask makers" if kinds[EvaluatedJob] else ""
    say(
        f"{pluralize(kinds[ModelJob], 'model')}, {pluralize(kinds[PretrainJob], 'pre-training')}{further}"
        f"{f', {done} of them already done' if done else ''}; "
        f"{pluralize(workers.at_once, 'job')} at a time with {pluralize(workers.threads, 'thread')} each"
    )
    with ProgressDisplay("study", workers.at_once) as display:
        return run_jobs(jobs, out, workers, _StudyMonitor(display, trials, out))


class _StudyMonitor:
    """Updates the display, and writes a new report whenever all trials of a draw and seed have ended."""

    def __init__(self, display: ProgressDisplay, trials: Sequence[Trial], out: Path) -> None:
        self._display, self._out = display, out
        self._open: dict[tuple[int, int], set[str]] = {}
        for trial in trials:
            self._open.setdefault((trial.draw, trial.seed), set()).add(trial.job.id)

    def __call__(self, progress: Schedule, running: list[str]) -> None:
        self._display(progress, running)
        for run in [run for run, jobs in self._open.items() if jobs <= progress.ended.keys()]:
            new = self._open.pop(run) - progress.done_before
            if new and self._open:  # after the last one, the study writes its report anyway
                self._report_so_far()

    def _report_so_far(self) -> None:
        try:
            _write_results(self._out)
        except Exception as error:  # must not end the study: the report is written again at its end
            warnings.warn(f"the report could not be written yet ({type(error).__name__}: {error})", stacklevel=2)
