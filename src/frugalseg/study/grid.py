"""The grid of a study: every model, and the jobs that make them.

A job's id ends in a hash of everything that shapes its result: options, data, and the pre-training it starts from. So
cells that agree share a pre-training, a changed plan keeps what is still asked for, and nothing is mixed up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from frugalseg._version import __version__
from frugalseg.contrast.methods import METHODS, reads_superpixels
from frugalseg.engine.files import sha256, write_json
from frugalseg.engine.run import NOT_SCIENCE, plain
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PretrainOptions
from frugalseg.segment.presets import PRESETS
from frugalseg.study.jobs import CellJob, Job, PretrainJob, TestJob, short_hash, slug
from frugalseg.study.plan import MethodPlan, Plan, TestPlan
from frugalseg.study.sources import Scan, Source, tested_scans

CHECKPOINT_MINUTES = 0.5


@dataclass(frozen=True)
class Cell:
    """One model of the grid.

    Attributes:
        job: what makes and tests it.
        pretrain: what makes its encoder, or None.
    """

    method: str
    backbone: str
    budget: str
    draw: int
    seed: int
    transductive: bool
    job: CellJob
    pretrain: PretrainJob | None


@dataclass(frozen=True)
class Grid:
    """Every model, in the order in which it is made: methods and budgets of a draw, then the next draw, then seed.

    A study that is stopped early has seen several draws then, which differ more than seeds do.

    Attributes:
        tests: test set → its scans.
    """

    cells: tuple[Cell, ...]
    tests: dict[str, list[Scan]]

    def jobs(self, cells: Sequence[Cell] | None = None) -> list[Job]:
        """The jobs of these cells (of all by default), each pre-training once, before the first cell that needs it."""
        jobs: dict[str, Job] = {}
        for cell in self.cells if cells is None else cells:
            if cell.pretrain is not None:
                jobs.setdefault(cell.pretrain.id, cell.pretrain)
            jobs[cell.job.id] = cell.job
        return list(jobs.values())


def build_grid(plan: Plan, sources: Mapping[str, Source], out: Path, threads: int) -> Grid:
    """The grid of a plan whose data sets are prepared; nothing is written but splits."""
    builder = _Builder(plan, sources, out, threads)
    runs = itertools.product(plan.seeds, plan.draws)
    grid = itertools.product(runs, plan.budgets, plan.backbones, plan.methods)
    cells = (
        builder.cell(method, backbone, budget, draw, seed)
        for (seed, draw), budget, backbone, method in grid
        if backbone in method.backbones
    )
    return Grid(tuple(cells), builder.scans)


class _Builder:
    def __init__(self, plan: Plan, sources: Mapping[str, Source], out: Path, threads: int) -> None:
        self.plan, self.sources, self.out, self.threads = plan, sources, out, threads
        self.scans = {test.name: tested_scans(test, sources) for test in plan.tests}
        self.stores = {name: source.store for name, source in sources.items() if not source.job.look}
        self.identities: dict[tuple[str, bool, bool], dict[str, str]] = {}

    def cell(self, method: MethodPlan, backbone: str, budget: str, draw: int, seed: int) -> Cell:
        pretrain = None if method.pretrain is None else self._pretrain(method, method.pretrain, backbone, seed)
        options = FinetuneOptions(
            data=self.sources[self.plan.train].job.options.out,
            out=self.out,
            encoder=None if pretrain is None else pretrain.options.out,
            transductive=method.transductive,
            backbone=backbone,
            budget=budget,
            draw=draw,
            seed=seed,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **method.finetune,
        )
        science = self._science(options, self._identity(self.plan.train, whole=False))
        science["encoder"] = None if pretrain is None else pretrain.id
        name = f"{slug(method.name, backbone, budget, f'd{draw}', f's{seed}')}-{short_hash(science)}"
        options = replace(options, out=self.out / "finetune" / name)
        job = CellJob(
            id=name,
            needs=() if pretrain is None else (pretrain.id,),
            options=options,
            tests=tuple(self._test(test, name, options) for test in self.plan.tests),
        )
        return Cell(method.name, backbone, budget, draw, seed, method.transductive, job, pretrain)

    def _pretrain(self, method: MethodPlan, values: Mapping[str, Any], backbone: str, seed: int) -> PretrainJob:
        source = method.pretrain_data
        options = PretrainOptions(
            data=self.sources[source].job.options.out,
            out=self.out,
            split=self._whole_split(source) if method.transductive else None,
            backbone=backbone,
            seed=seed,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{**values, "norm": method.norms(backbone)[0]},
        )
        science = self._science(options, self._identity(source, method.transductive, reads_superpixels(options)))
        whole = ("whole",) if method.transductive else ()
        name = f"{slug(options.method, *whole, backbone, f's{seed}')}-{short_hash(science)}"
        return PretrainJob(id=f"pretrain.{name}", options=replace(options, out=self.out / "pretrain" / name))

    def _whole_split(self, source: str) -> Path:
        """A split whose training part is every patient."""
        store = self.stores[source]
        path = store.folder.with_name(f"{store.folder.name}.whole.json")
        write_json(path, {"train": store.patients, "validation": [], "test": []})
        return path

    def _identity(self, source: str, whole: bool, superpixels: bool = False) -> dict[str, str]:
        key = (source, whole, superpixels)
        if key not in self.identities:
            store = self.stores[source]
            split = store.split(self._whole_split(source) if whole else None)
            self.identities[key] = store.identity(split, superpixels)
        return self.identities[key]

    def _science(self, options: PretrainOptions | FinetuneOptions, data: Mapping[str, str]) -> dict[str, Any]:
        """All that shapes a training's result, as plain data: what a name stands for, too, so that no model of a newer
        frugalseg stands beside those of an older one."""
        left_out = NOT_SCIENCE | {"data", "split", "encoder"}
        science = {name: value for name, value in plain(options).items() if name not in left_out}
        if options.weights is not None:
            science["weights"] = sha256(options.weights)
        if isinstance(options, PretrainOptions):
            science["recipe"] = asdict(METHODS[options.method].recipe)
        else:
            science["preset_content"] = asdict(PRESETS[options.preset])
        return {**science, "identity": dict(data), "frugalseg": __version__}

    def _test(self, test: TestPlan, cell: str, options: FinetuneOptions) -> TestJob:
        source = self.sources[test.data]
        target = source.job.options.target
        cases = [scan.case for scan in self.scans[test.name]]
        science = {"target": target, "scans": [[s.case, s.fingerprint, s.mask] for s in self.scans[test.name]]}
        folder = self.out / "tests" / cell / f"{slug(test.name)}-{short_hash(science)}"
        predict = PredictOptions(
            model=options.out,
            images=source.job.options.images,
            out=folder / "masks",
            case=cases,
            target=target,
            device=options.device,
            precision=options.precision,
            overwrite=True,
            resume="auto",
        )
        evaluate = EvaluateOptions(
            predictions=predict.out,
            references=source.references,
            case=cases,
            target=target,
            out=folder / "evaluation",
            report=False,  # one of the whole study tells more than hundreds, and they take minutes
            workers=self.threads,
            overwrite=True,
        )
        return TestJob(test.name, predict, evaluate)


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
            "transductive": cell.transductive,
            "semi": cell.job.options.semi or PRESETS[cell.job.options.preset].semi,
            "folder": inside(cell.job.options.out),
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
