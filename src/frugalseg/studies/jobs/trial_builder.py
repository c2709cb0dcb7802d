"""What fills a place of the grid: its jobs, each named after all that shapes its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from frugalseg._version import __version__
from frugalseg.engine.files import sha256, write_json
from frugalseg.engine.run import NOT_SCIENCE, plain
from frugalseg.errors import OptionError
from frugalseg.options import EvaluateOptions, PretrainOptions
from frugalseg.pretraining.methods import reads_superpixels, resolve_method
from frugalseg.studies.jobs.datasets import StudyDataset, scans_to_segment, tested_scans
from frugalseg.studies.jobs.equivalent_runs import EquivalentRuns
from frugalseg.studies.jobs.job import EvaluatedJob, MakesMasks, ModelJob, PretrainJob, TestJob, short_hash, slug
from frugalseg.studies.plan.data import ScansToSegment, TestPlan
from frugalseg.studies.plan.method import MaskMaker, MethodPlan, Training
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.plan import Plan

CHECKPOINT_MINUTES = 0.5


@dataclass(frozen=True)
class Trial:
    """One place of the grid.

    Attributes:
        runs: the draws and seeds that it stands for; `draw` and `seed` name it.
        uses_test_references: whether references of the test scans are used, so that it is no method among others.
        annotation: of masks that another program made: what it learned from, as the plan states it.
        job: what makes and evaluates its masks.
        model: what trains its model: `job` itself, or what `job` goes on with; None where there is none.
        pretrain: what makes the model's encoder, or None.
    """

    method: str
    backbone: str
    budget: str
    runs: EquivalentRuns
    transductive: bool
    uses_test_references: bool
    annotation: str | None
    job: EvaluatedJob
    model: ModelJob | None
    pretrain: PretrainJob | None

    @property
    def draw(self) -> int:
        """The first of the draws that it stands for."""
        return self.runs.draws[0]

    @property
    def seed(self) -> int:
        """The first of the seeds that it stands for."""
        return self.runs.seeds[0]


class TrialBuilder:
    """Makes the trials of a plan whose data sets are prepared.

    Args:
        plan: of the study.
        datasets: its data sets.
        out: the study's folder.
        threads: CPU threads of a job.

    Attributes:
        scans: test set → its scans.
    """

    def __init__(self, plan: Plan, datasets: Mapping[str, StudyDataset], out: Path, threads: int) -> None:
        self.plan, self.datasets, self.out, self.threads = plan, datasets, out, threads
        self.scans = {test.name: tested_scans(test, datasets) for test in plan.tests}
        self.stores = {name: source.store for name, source in datasets.items() if not source.job.test_only}
        self.identities: dict[tuple[str, bool, bool], dict[str, str]] = {}

    def trial(self, method: MethodPlan, backbone: str, budget: str, runs: EquivalentRuns) -> Trial:
        """The trial that stands for these runs of a method."""
        draw, seed = runs.run
        place = (backbone, budget, f"d{draw}", f"s{seed}")
        pretrain = None if method.pretrain is None else self._pretrain(method, method.pretrain, backbone, seed)
        model = None
        if method.training is not None:
            grid = {
                **{"budget": budget, "label_draw": draw, "seed": seed, "backbone": backbone},
                "encoder": None if pretrain is None else pretrain.run,
                "transductive": method.transductive,
            }
            model = self._model(method, method.training, self._options(method.training, grid), pretrain, place)
        job: EvaluatedJob | None = model
        if method.masks is not None:
            job = self._masks(method, method.masks, model, place)
        assert job is not None  # a method trains, or has masks made
        return Trial(
            method=method.name,
            backbone=backbone,
            budget=budget,
            runs=runs,
            transductive=method.transductive,
            uses_test_references=method.uses_test_references,
            annotation=None if method.masks is None else method.masks.annotation,
            job=job,
            model=model,
            pretrain=pretrain,
        )

    def _pretrain(self, method: MethodPlan, values: Values, backbone: str, seed: int) -> PretrainJob:
        source = method.pretrain_data
        self._check_scaling(source)
        options = PretrainOptions(
            data=self.datasets[source].job.options.out,
            out=self.out,
            split=self._whole_split(source) if method.transductive else None,
            seed=seed,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{**values, "backbone": backbone, "norm": method.norms(backbone)[0]},
        )
        science = self._science(
            options,
            _content_of_pretraining(options),
            self._identity(source, method.transductive, reads_superpixels(options)),
        )
        whole = ("whole",) if method.transductive else ()
        name = f"{slug(options.method, *whole, backbone, f's{seed}')}-{short_hash(science)}"
        return PretrainJob(id=f"pretrain.{name}", options=replace(options, out=self.out / "pretrain" / name))

    def _check_scaling(self, source: str) -> None:
        """Refuse, before days of pre-training, an encoder that would see other intensities than it learned from."""
        scales = [self.stores[name].intensity for name in (source, self.plan.train)]
        if scales[0] != scales[1]:
            told = [f"{scale.kind} {scale.low:g}…{scale.high:g}" for scale in scales]
            raise OptionError(
                f"{source} is scaled by {told[0]}, {self.plan.train} by {told[1]}",
                "give both the same modality and window (or percentiles) in the plan",
            )

    def _options(self, training: Training, grid: Values) -> Any:
        """The options of a training, but for its folder, whose name tells them."""
        kind = training.OPTIONS.kind
        return kind(
            data=self.datasets[self.plan.train].job.options.out,
            out=self.out,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{f.name: grid[f.name] for f in fields(kind) if f.name in grid},
            **training.values,
        )

    def _model(
        self,
        method: MethodPlan,
        training: Training,
        options: Any,
        pretrain: PretrainJob | None,
        place: tuple[str, ...],
    ) -> ModelJob:
        science = self._science(options, training.content(options), self._identity(self.plan.train, whole=False))
        science["encoder"] = None if pretrain is None else pretrain.id
        name = f"{slug(method.trained_as, *place)}-{short_hash(science)}"
        options = replace(options, out=self.out / "finetune" / name)

        def predict(scans: ScansToSegment, out: Path) -> Any:
            return training.prediction(options, scans, out)

        return ModelJob(
            id=name,
            needs=() if pretrain is None else (pretrain.id,),
            training=type(training),
            options=options,
            tests=tuple(self._test(test, name, {}, type(training), predict) for test in self.plan.tests),
        )

    def _masks(
        self, method: MethodPlan, maker: MaskMaker, model: ModelJob | None, place: tuple[str, ...]
    ) -> EvaluatedJob:
        """Masks by a mask maker; without a model they are the same for every budget, draw and seed."""
        tests = [self._scans_of(test) for test in self.plan.tests]
        science = {**maker.content(method.name, tests, model), "frugalseg": __version__}
        name = f"{slug(method.name, *(() if model is None else place))}-{short_hash(science)}"

        def options(scans: ScansToSegment, out: Path) -> Any:
            return maker.options(method.name, scans, model, out)

        return EvaluatedJob(
            id=name,
            needs=() if model is None else (model.id,),
            tests=tuple(
                self._test(test, name, maker.content_of_test(scans), type(maker), options)
                for test, scans in zip(self.plan.tests, tests, strict=True)
            ),
        )

    def _scans_of(self, test: TestPlan) -> ScansToSegment:
        return scans_to_segment(self.plan, test, self.datasets, self.out)

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

    def _science(self, options: Any, content: Mapping[str, object], data: Mapping[str, str]) -> dict[str, object]:
        """All that shapes a training's result, as plain data: what a name stands for, too, so that no model of a newer
        frugalseg stands beside those of an older one."""
        left_out = NOT_SCIENCE | {"data", "split", "encoder"}
        science = {name: value for name, value in plain(options).items() if name not in left_out}
        return {**science, **content, "identity": dict(data), "frugalseg": __version__}

    def _test(
        self,
        test: TestPlan,
        trial: str,
        content: Mapping[str, object],
        maker: MakesMasks,
        options: Callable[[ScansToSegment, Path], Any],
    ) -> TestJob:
        """Masks of a test set, and their evaluation.

        Args:
            test: the test set.
            trial: id of the job.
            content: what else shapes the masks, and is not in that id.
            maker: what makes them.
            options: what it is given, of the scans and the folder for the masks.
        """
        scans = self._scans_of(test)
        known = [[scan.case, scan.fingerprint, scan.mask] for scan in self.scans[test.name]]
        science = {"target": scans.target, "scans": known, **content}
        folder = self.out / "tests" / trial / f"{slug(test.name)}-{short_hash(science)}"
        evaluate = EvaluateOptions(
            predictions=folder / "masks",
            references=scans.references,
            case=list(scans.case),
            target=list(scans.target),
            out=folder / "evaluation",
            report=False,  # one of the whole study tells more than hundreds, and they take minutes
            workers=self.threads,
            overwrite=True,
        )
        return TestJob(test.name, maker, options(scans, folder / "masks"), evaluate)


def _content_of_pretraining(options: PretrainOptions) -> dict[str, object]:
    """What shapes a pre-training beside its options."""
    method = resolve_method(options)
    content: dict[str, object] = {
        "recipe": asdict(method.recipe),
        "head": None if method.head is None else asdict(method.head),
    }
    if options.weights is not None:
        content["weights"] = sha256(options.weights)
    return content
