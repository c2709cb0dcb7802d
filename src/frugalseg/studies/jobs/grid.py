"""The grid of a study: its trials and their jobs.

A job's id ends in a hash of everything that determines its result: options, data, and the pre-training it starts from.
So trials share a pre-training where they can, and a changed plan reuses all results that still apply and no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.records.study import GridRecord, PlannedModel, PlannedPretraining, PlannedTest, PlannedTrial
from frugalseg.studies.jobs.datasets import LabelledScan, StudyDataset
from frugalseg.studies.jobs.equivalent_runs import RunGroups
from frugalseg.studies.jobs.job import Job, ModelJob
from frugalseg.studies.jobs.trial_builder import Trial, TrialBuilder
from frugalseg.studies.plan.plan import StudyPlan


@dataclass(frozen=True)
class Grid:
    """Every trial, in the order in which they are run: methods and budgets of a draw, then the next draw, then seed.

    So a study that is stopped early covers several draws, which differ more than seeds do.

    Attributes:
        tests: test set → its scans.
    """

    trials: tuple[Trial, ...]
    tests: dict[str, list[LabelledScan]]

    def list_jobs(self, trials: Sequence[Trial] | None = None) -> list[Job]:
        """The jobs of these trials (default: of all), each once, and after the jobs that it needs."""
        jobs: dict[str, Job] = {}
        for trial in self.trials if trials is None else trials:
            for job in trial.jobs:
                jobs.setdefault(job.id, job)
        return list(jobs.values())


def build_grid(plan: StudyPlan, datasets: Mapping[str, StudyDataset], out: Path, threads: int) -> Grid:
    """The grid of a plan whose data sets are prepared; writes only the splits of transductive pre-trainings."""
    builder = TrialBuilder(plan, datasets, out, threads)
    groups = RunGroups(plan, datasets[plan.train].store)
    runs = itertools.product(plan.seeds, plan.draws)
    grid = itertools.product(runs, plan.budgets, plan.backbones, plan.methods)
    trials = (
        builder.build_trial(method, backbone, budget, equivalent)
        for (seed, draw), budget, backbone, method in grid
        if backbone in method.backbones
        if (equivalent := groups.find_runs(method, budget, draw, seed)) is not None
    )
    return Grid(tuple(trials), builder.scans)


def write_grid(path: Path, grid: Grid, plan: StudyPlan) -> None:
    """Write the grid as JSON, with paths relative to the study's folder."""
    folder = path.parent

    def relative_path(target: Path) -> str:
        return target.relative_to(folder).as_posix()

    def plan_model(trial: Trial, model: ModelJob) -> PlannedModel:
        before = trial.find_pretraining(model)
        return PlannedModel(
            folder=relative_path(model.run),
            semi=model.training.unlabelled_use(model.options),
            pretrain=None if before is None else PlannedPretraining(before.id, relative_path(before.run)),
        )

    trials = [
        PlannedTrial(
            id=trial.job.id,
            method=trial.method,
            backbone=trial.backbone,
            budget=trial.budget,
            draw=trial.draw,
            seed=trial.seed,
            draws=trial.runs.draws,
            seeds=trial.runs.seeds,
            transductive=trial.transductive,
            uses_test_references=trial.uses_test_references,
            annotation=trial.annotation,
            models=tuple(plan_model(trial, model) for model in trial.models),
            tests={test.name: relative_path(test.evaluate.out) for test in trial.job.tests},
        )
        for trial in grid.trials
    ]
    tests = [
        PlannedTest(
            name=test.name,
            in_domain=test.in_domain,
            millimetres=test.millimetres,
            patients={scan.case: scan.patient for scan in grid.tests[test.name]},
        )
        for test in plan.tests
    ]
    GridRecord(trials=tuple(trials), tests=tuple(tests)).write(path)
