"""Overhead of a study beyond its runs: processes, job states, tables, report."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import StudyOptions
from frugalseg.studies.jobs.datasets import resolve_datasets
from frugalseg.studies.jobs.grid import build_grid
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.run import study
from tables import show

PLAN = """
data: {phantoms: {phantoms: 8, grid: [64, 64, 24], size: 64}}
train: phantoms
tests: {held out: {data: phantoms}}
finetune: {steps: 20, precision: "32"}
methods: {scratch: {}}
budgets: ["1 scans", "3 scans"]
seeds: [0, 1, 2]
"""
THREADS = 1


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text(PLAN)
        out = Path(folder) / "out"
        options = StudyOptions(plan=path, out=out, threads=THREADS)
        whole = _seconds(lambda: study(options))
        nothing = _seconds(lambda: study(options))
        alone = _seconds(lambda: _alone(path, out, Path(folder) / "alone"))
    show(
        "A study of 6 models, one at a time",
        [
            ("the study, first run", f"{whole:.1f} s", ""),
            ("its runs without a study, in one process", f"{alone:.1f} s", ""),
            ("overhead of the study", f"{whole - alone:.1f} s", ""),
            ("the same command on the finished study", f"{nothing:.1f} s", ""),
        ],
    )


def _alone(path: Path, prepared: Path, out: Path) -> None:
    """The same trainings, predictions and evaluations, one after the other."""
    plan = read_plan(path)
    for trial in build_grid(plan, resolve_datasets(plan, prepared), prepared, THREADS).trials:
        folder = out / trial.job.id
        finetune(replace(trial.job.options, out=folder / "model"))
        for test in trial.job.tests:
            predict(replace(test.make, model=folder / "model", out=folder / "masks"))
            evaluate(replace(test.evaluate, predictions=folder / "masks", out=folder / "evaluation"))


def _seconds(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
