"""`frugalseg study`: run a plan, resumably, and report on it. `frugalseg report`: report again."""

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
from frugalseg.engine.progress import say
from frugalseg.engine.threads import requested_threads, usable_cores
from frugalseg.errors import OptionError, RunError, disk_errors
from frugalseg.options import ReportOptions, StudyOptions
from frugalseg.records.study import StudyRecord
from frugalseg.studies.jobs.datasets import StudyDataset, check_data, resolve_datasets, scans_to_segment
from frugalseg.studies.jobs.grid import Grid, build_grid, write_grid
from frugalseg.studies.jobs.job import EvaluatedJob, Job, ModelJob, PretrainJob
from frugalseg.studies.jobs.progress import ProgressDisplay
from frugalseg.studies.jobs.scheduler import Schedule, run_jobs
from frugalseg.studies.jobs.state import GRID, LOCK, SETTINGS, at_work, is_done
from frugalseg.studies.jobs.trial_builder import Trial
from frugalseg.studies.jobs.workers import LocalWorkers, Workers, visible_gpus
from frugalseg.studies.plan.plan import Plan
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.yaml_source import YamlValue, without_flags
from frugalseg.studies.report.report import write_report
from frugalseg.studies.report.results import PLAN, collect, write_tables
from frugalseg.text import pluralize


def study(options: StudyOptions) -> Path:
    """Run every job of a plan that is not done, and return the path of the report, which is also printed.

    Raises:
        OptionError: the plan is wrong, or its data cannot be prepared; the line is named, nothing was trained.
        RunError: another process works on `out`; or jobs failed, after all others are done and reported.
        DiskError: `out` cannot be made or written.
        InterruptedRunError: stopped by the person; the same command goes on.
    """
    check_out(options.out)
    plan = read_plan(options.plan, options.study)
    wanted = _parse_only(options.only, plan)
    out = options.out.resolve()
    with disk_errors(out):
        _check_folder(out)
    with at_work(out), closing(_make_workers(options, out)) as workers:
        if not (out / SETTINGS).is_file():
            _write_settings(out, options, workers)  # from now on the folder is a study's
        datasets = resolve_datasets(plan, out)
        _prepare([(source.job, source.entry) for source in datasets.values()], out, workers)
        check_data(plan, datasets)
        _prepare(mask_preparations(plan, datasets, out), out, workers)
        grid = build_grid(plan, datasets, out, workers.threads)
        _write_settings(out, options, workers)
        _write_plan(out, plan)  # with the grid and no sooner: a plan that is refused leaves both as they were
        write_grid(out / GRID, grid, plan)
        try:
            progress = _train(grid, [trial for trial in grid.trials if wanted(trial)], out, workers)
        finally:
            path = _report(out)
    print(path)
    if failed := progress.failed():
        raise RunError(
            f"{len(failed)} of {pluralize(len(progress.jobs), 'job')} failed; the report shows the gaps",
            f"see `frugalseg study status {options.out}`; the same command tries them again",
        )
    return path


def report(options: ReportOptions) -> Path:
    """Write the tables and the report of a study again, from what is done; returns the report's path."""
    path = _report(options.folder.resolve())
    print(path)
    return path


def _report(out: Path) -> Path:
    results = collect(out)
    write_tables(results, out)
    return write_report(results, out)


def _check_folder(out: Path) -> None:
    if out.is_dir() and ((out / SETTINGS).is_file() or all(entry.name == LOCK for entry in out.iterdir())):
        return
    if out.exists():
        raise RunError(f"{out} is not the folder of a study", "choose another --out")


def _parse_only(texts: Sequence[str], plan: Plan) -> Callable[[Trial], bool]:
    """Which trials `--only` names: those that agree in every key; a key given twice allows both values.

    Raises:
        OptionError: a key or a value that the plan does not have.
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
            raise OptionError(
                f"--only {text!r} names no part of the grid", f"write {', '.join(f'{k}=…' for k in known)}"
            )
        there = [str(v) for v in known[key]]
        if key == "budget":  # 1 scan is `1 scans` in a plan
            with suppress(OptionError):
                value = str(Budget.parse(value, none=True))
        if value not in there:
            raise OptionError(f"--only {text!r}: the plan has no such {key}", f"choose of: {', '.join(there)}")
        chosen.setdefault(key, set()).add(value)
    return lambda trial: all(values & _places(trial, key) for key, values in chosen.items())


def _places(trial: Trial, key: str) -> set[str]:
    """Where a trial stands along one axis of the grid."""
    places = {"draw": trial.runs.draws, "seed": trial.runs.seeds}.get(key) or (getattr(trial, key),)
    return {str(place) for place in places}


def _make_workers(options: StudyOptions, out: Path) -> Workers:
    threads = options.threads or requested_threads() or max(1, usable_cores() // (options.jobs or 1))
    if options.ray is not None:
        from frugalseg.studies.jobs.ray_workers import RayWorkers

        return RayWorkers(out, options.ray, options.jobs, threads if options.ray == "local" else options.threads)
    return LocalWorkers(out, options.jobs or 1, threads, visible_gpus())


def _write_settings(out: Path, options: StudyOptions, workers: Workers) -> None:
    StudyRecord(
        jobs=workers.at_once,
        version=__version__,
        plan=str(options.plan.resolve()),
        threads=workers.threads,
        ray=options.ray,
        only=tuple(options.only),
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
    ).write(out / SETTINGS)


def _write_plan(out: Path, plan: Plan) -> None:
    with atomic_write(out / PLAN, "w") as file:
        file.write("# The plan with every default filled in; `frugalseg study THIS_FILE --out …` runs it again.\n")
        yaml.safe_dump(plan.resolved(), file, sort_keys=False, allow_unicode=True)


def mask_preparations(plan: Plan, datasets: dict[str, StudyDataset], out: Path) -> list[tuple[Job, YamlValue]]:
    """What mask makers need before the grid is known, each with its place in the plan."""
    prepared = (
        method.masks.preparation(method.name, scans_to_segment(plan, test, datasets, out))
        for method in plan.methods
        if method.masks is not None
        for test in plan.tests
    )
    return [preparation for preparation in prepared if preparation is not None]


def _prepare(jobs: Sequence[tuple[Job, YamlValue]], out: Path, workers: Workers) -> None:
    """Do what comes before the grid is known, each named by its place in the plan; what fails ends the study."""
    if not jobs:
        return
    with ProgressDisplay("preparing", workers.at_once) as display:
        progress = run_jobs([job for job, _ in jobs], out, workers, display)
    if failed := progress.failed():
        entries = {job.id: entry for job, entry in jobs}
        job, state = next(iter(failed.items()))
        problem, _, cure = without_flags(state.error).partition("\n  → ")
        raise entries[job].error(f"cannot be prepared: {problem}", cure or f"see {out / state.log}")


def _train(grid: Grid, trials: Sequence[Trial], out: Path, workers: Workers) -> Schedule:
    jobs = grid.jobs(trials)
    done = sum(map(is_done, jobs))
    kinds = {kind: sum(type(job) is kind for job in jobs) for kind in (PretrainJob, ModelJob, EvaluatedJob)}
    further = f", {pluralize(kinds[EvaluatedJob], 'further set')} of masks" if kinds[EvaluatedJob] else ""
    say(
        f"{pluralize(kinds[ModelJob], 'model')}, {pluralize(kinds[PretrainJob], 'pre-training')}{further}"
        f"{f', {done} of them done before' if done else ''}; "
        f"{workers.at_once} at once with {pluralize(workers.threads, 'thread')} each"
    )
    with ProgressDisplay("study", workers.at_once) as display:
        return run_jobs(jobs, out, workers, _Watchers(display, trials, out))


class _Watchers:
    """The display, and a new report whenever all models of a draw and seed are through."""

    def __init__(self, display: ProgressDisplay, trials: Sequence[Trial], out: Path) -> None:
        self._display, self._out = display, out
        self._open: dict[tuple[int, int], set[str]] = {}
        for trial in trials:
            self._open.setdefault((trial.draw, trial.seed), set()).add(trial.job.id)

    def __call__(self, progress: Schedule, running: list[str]) -> None:
        self._display(progress, running)
        through = [run for run, jobs in self._open.items() if jobs <= progress.ended.keys()]
        for run in through:
            new = self._open.pop(run) - progress.before
            if new and self._open:  # the last one is reported at the end anyway
                self._report_so_far()

    def _report_so_far(self) -> None:
        try:
            _report(self._out)
        except Exception as error:  # a day of training must not end over a table that the end writes again
            warnings.warn(f"the report could not be written yet ({type(error).__name__}: {error})", stacklevel=2)
