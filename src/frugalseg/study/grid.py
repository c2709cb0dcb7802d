"""The grid of a study: every place, and the jobs that fill it.

A job's id ends in a hash of everything that shapes its result: options, data, and the pre-training it starts from. So
cells that agree share a pre-training, a changed plan keeps what is still asked for, and nothing is mixed up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.engine.files import write_json
from frugalseg.options import FinetuneOptions
from frugalseg.segment.presets import PRESETS
from frugalseg.study.cells import Cell, CellBuilder
from frugalseg.study.jobs import Job, ModelJob
from frugalseg.study.plan import Plan
from frugalseg.study.sources import Scan, Source
from frugalseg.study.trials import Trials


@dataclass(frozen=True)
class Grid:
    """Every trial, in the order in which they are done: methods and budgets of a draw, then the next draw, then seed.

    A study that is stopped early has seen several draws then, which differ more than seeds do.

    Attributes:
        tests: test set → its scans.
    """

    cells: tuple[Cell, ...]
    tests: dict[str, list[Scan]]

    def jobs(self, cells: Sequence[Cell] | None = None) -> list[Job]:
        """The jobs of these cells (of all by default), each once, and after those that it needs."""
        jobs: dict[str, Job] = {}
        for cell in self.cells if cells is None else cells:
            for job in (cell.pretrain, cell.model, cell.job):
                if job is not None:
                    jobs.setdefault(job.id, job)
        return list(jobs.values())


def build_grid(plan: Plan, sources: Mapping[str, Source], out: Path, threads: int) -> Grid:
    """The grid of a plan whose data sets are prepared; nothing is written but splits."""
    builder = CellBuilder(plan, sources, out, threads)
    trials = Trials(plan, sources[plan.train].store)
    runs = itertools.product(plan.seeds, plan.draws)
    grid = itertools.product(runs, plan.budgets, plan.backbones, plan.methods)
    cells = (
        builder.cell(method, backbone, budget, trial)
        for (seed, draw), budget, backbone, method in grid
        if backbone in method.backbones
        if (trial := trials.at(method, budget, draw, seed)) is not None
    )
    return Grid(tuple(cells), builder.scans)


def write_grid(path: Path, grid: Grid, plan: Plan) -> None:
    """Write the grid as JSON, its paths relative to the study's folder."""
    folder = path.parent

    def inside(target: Path) -> str:
        return target.relative_to(folder).as_posix()

    cells = [
        {
            "id": cell.job.id,
            "method": cell.method,
            "backbone": cell.backbone,
            "budget": cell.budget,
            "draw": cell.draw,
            "seed": cell.seed,
            "draws": cell.trial.draws,
            "seeds": cell.trial.seeds,
            "transductive": cell.transductive,
            "guided": cell.guided,
            "annotation": cell.annotation,
            "semi": _semi(cell.model),
            "folder": None if cell.model is None else inside(cell.model.options.out),
            "pretrain": None
            if cell.pretrain is None
            else {"id": cell.pretrain.id, "folder": inside(cell.pretrain.options.out)},
            "tests": {test.name: inside(test.evaluate.out) for test in cell.job.tests},
        }
        for cell in grid.cells
    ]
    tests = [
        {
            "name": test.name,
            "in_domain": test.in_domain,
            "millimetres": test.millimetres,
            "patients": {scan.case: scan.patient for scan in grid.tests[test.name]},
        }
        for test in plan.tests
    ]
    write_json(path, {"cells": cells, "tests": tests})


def _semi(model: ModelJob | None) -> str:
    """How the training uses unlabelled slices."""
    if model is None or not isinstance(model.options, FinetuneOptions):
        return "none"
    return model.options.semi or PRESETS[model.options.preset].semi
