"""How quickly a large study lists, resumes and reports: one tiny trial is trained, and its results stand for all.

    python benchmarks/study_scale.py /tmp/study-scale --trials 10000 --out docs/explanation/tables/scale/studies.csv

The files of the trained trial are linked (those that are written: copied) to the place of every planned trial, so that
the study is finished. What is measured then reads all of them.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from frugalseg.options import ReportOptions, StudyOptions, StudyStatusOptions
from frugalseg.records.study import GridRecord, JobState
from frugalseg.studies.jobs.datasets import resolve_datasets
from frugalseg.studies.jobs.grid import build_grid, write_grid
from frugalseg.studies.jobs.state import GRID, write_state
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.run import report, study
from frugalseg.studies.status import study_status

METHODS, DRAWS = 10, 10
"""Methods that differ in their learning rate, and draws; the rest of the trials are seeds."""


def write_plan(folder: Path, methods: int, draws: int, seeds: int) -> Path:
    """A plan of methods × draws × seeds on eight phantoms, each training of two steps."""
    path = folder / f"plan-{methods * draws * seeds}.yaml"
    lines = [
        "name: scale",
        "data: {p: {phantoms: 8, grid: [64, 64, 24], target: [liver=6], size: 32}}",
        "train: p",
        "tests: {held out: {data: p}}",
        'finetune: {steps: 2, batch_size: 4, device: cpu, precision: "32"}',
        "backbones: [unet]",
        "methods:",
        *(f"  method{i}: {{finetune: {{lr: {1e-3 * (i + 1):g}}}}}" for i in range(methods)),
        'budgets: ["1 slices"]',
        f"draws: {list(range(draws))}",
        f"seeds: {list(range(seeds))}",
        "baseline: method0",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def link_tree(source: Path, target: Path) -> None:
    """The same files at another place, without copies."""
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


def finish_all(plan_file: Path, out: Path, model: Path, evaluation: Path) -> int:
    """Give every planned trial the results of one; returns the number of trials."""
    plan = read_plan(plan_file)
    grid = build_grid(plan, resolve_datasets(plan, out), out, threads=1)
    for trial in grid.trials:
        assert trial.model is not None
        if not trial.model.run.exists():
            link_tree(model, trial.model.run)
        for test in trial.job.tests:
            if not test.evaluate.out.exists():
                link_tree(evaluation, test.evaluate.out)
        write_state(out, trial.job.id, JobState("done", 1.0, log="logs/none.log", started=time.time(), threads=1))
    write_grid(out / GRID, grid, plan)
    return len(grid.trials)


def measure(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of one processor, child processes included."""

    def used() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    begun, before = time.perf_counter(), used()
    action()
    return time.perf_counter() - begun, used() - before


def main() -> None:
    """Make the study where it does not exist yet, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out, seeds = folder / "study", max(1, arguments.trials // (METHODS * DRAWS))
    if not (out / "study.json").exists():
        study(StudyOptions(plan=write_plan(folder, 1, 1, 1), out=out, threads=1))
    first = GridRecord.read(out / GRID).trials[0]
    assert first.folder is not None
    plan = write_plan(folder, METHODS, DRAWS, seeds)
    trials = finish_all(plan, out, out / first.folder, out / next(iter(first.tests.values())))
    options = StudyOptions(plan=plan, out=out, threads=1)
    rows = [
        {"action": name, "trials": trials, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
        for name, action in {
            "study, all trials finished (report included)": lambda: study(options),
            "study status": lambda: study_status(StudyStatusOptions(folder=out)),
            "report": lambda: report(ReportOptions(folder=out)),
        }.items()
        for seconds, cpu in [measure(action)]
    ]
    for row in rows:
        print(row)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
