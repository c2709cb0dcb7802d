"""Building the trials of a grid: their jobs, with ids that hash everything that determines the result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from frugalseg._version import __version__
from frugalseg.engine.files import sha256, write_json
from frugalseg.engine.run import ADDED_LATER, WITHOUT_EFFECT, to_plain_options
from frugalseg.errors import OptionError
from frugalseg.options import EvaluateOptions, PretrainOptions
from frugalseg.pretraining.methods import reads_superpixels, resolve_method
from frugalseg.studies.jobs.datasets import StudyDataset, list_test_scans, locate_scans
from frugalseg.studies.jobs.equivalent_runs import EquivalentRuns
from frugalseg.studies.jobs.job import EvaluatedJob, MakesMasks, ModelJob, PretrainJob, TestJob, short_hash, slug
from frugalseg.studies.plan.data import ScansToSegment, TestPlan
from frugalseg.studies.plan.method import MaskMaker, MethodPlan, StudyTraining
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.plan import StudyPlan

CHECKPOINT_MINUTES = 0.5


@dataclass(frozen=True)
class Trial:
    """A method at a backbone, a budget, a draw and a seed.

    Attributes:
        runs: the draws and seeds that it represents; it is named by `draw` and `seed`.
        uses_test_references: whether references of the test scans are used, so that it is not ranked with the others.
        annotation: for masks of another program, its training annotation as the plan states it.
        jobs: all jobs that it needs, each after those that it needs itself; the last makes and evaluates its masks.
    """

    method: str
    backbone: str
    budget: str
    runs: EquivalentRuns
    transductive: bool
    uses_test_references: bool
    annotation: str | None
    jobs: tuple[PretrainJob | EvaluatedJob, ...]

    @property
    def job(self) -> EvaluatedJob:
        """The job that makes and evaluates its masks."""
        last = self.jobs[-1]
        assert isinstance(last, EvaluatedJob)  # a pre-training is followed by a training
        return last

    @property
    def models(self) -> tuple[ModelJob, ...]:
        """The jobs that train its models: one, none without training, or several that are averaged."""
        return tuple(job for job in self.jobs if isinstance(job, ModelJob))

    def find_pretraining(self, model: ModelJob) -> PretrainJob | None:
        """The job that trains the model's encoder, or None."""
        return next((job for job in self.jobs if isinstance(job, PretrainJob) and job.id in model.needs), None)

    @property
    def draw(self) -> int:
        """The first of the draws that it represents."""
        return self.runs.draws[0]

    @property
    def seed(self) -> int:
        """The first of the seeds that it represents."""
        return self.runs.seeds[0]


class TrialBuilder:
    """Builds the trials of a plan whose data sets are prepared.

    Args:
        plan: the plan.
        datasets: its data sets.
        out: the study's folder.
        threads: CPU threads of a job.

    Attributes:
        scans: test set → its scans.
    """

    def __init__(self, plan: StudyPlan, datasets: Mapping[str, StudyDataset], out: Path, threads: int) -> None:
        self.plan, self.datasets, self.out, self.threads = plan, datasets, out, threads
        self.scans = {test.name: list_test_scans(test, datasets) for test in plan.tests}
        self._located = {test.name: locate_scans(plan, test, datasets, out) for test in plan.tests}
        self.stores = {name: source.store for name, source in datasets.items() if not source.job.test_only}
        self.store_identities: dict[tuple[str, bool, bool], dict[str, str]] = {}

    def build_trial(self, method: MethodPlan, backbone: str, budget: str, runs: EquivalentRuns) -> Trial:
        """The trial that represents these runs of a method."""
        return Trial(
            method=method.name,
            backbone=backbone,
            budget=budget,
            runs=runs,
            transductive=method.transductive,
            uses_test_references=method.uses_test_references,
            annotation=None if method.masks is None else method.masks.annotation,
            jobs=tuple(self._make_jobs(method, backbone, budget, runs)),
        )

    def _make_jobs(
        self, method: MethodPlan, backbone: str, budget: str, runs: EquivalentRuns
    ) -> list[PretrainJob | EvaluatedJob]:
        """All jobs of a method, each after those that it needs."""
        draw, seed = runs.run
        place = (backbone, budget, f"d{draw}", f"s{seed}")
        if method.masks is not None:
            needed = [
                self._make_jobs(source, source.backbone_beside(backbone), budget, runs) for source in method.sources
            ]
            sources = [jobs[-1] for jobs in needed if isinstance(jobs[-1], EvaluatedJob)]
            return [*itertools.chain(*needed), self._make_mask_job(method, method.masks, sources, place)]
        pretrain = None if method.pretrain is None else self._make_pretrain_job(method, method.pretrain, backbone, seed)
        assert method.training is not None  # a method has a training or a mask maker
        grid = {
            **{"budget": budget, "label_draw": draw, "seed": seed, "backbone": backbone},
            "encoder": None if pretrain is None else pretrain.run,
            "transductive": method.transductive,
        }
        options = self._make_options(method.training, grid)
        model = self._make_model_job(method, method.training, options, pretrain, place)
        return [model] if pretrain is None else [pretrain, model]

    def _make_pretrain_job(self, method: MethodPlan, values: Values, backbone: str, seed: int) -> PretrainJob:
        source = method.pretrain_data
        self._check_scaling(source)
        options = PretrainOptions(
            data=self.datasets[source].job.options.out,
            out=self.out,
            split=self._write_whole_split(source) if method.transductive else None,
            seed=seed,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{**values, "backbone": backbone, "norm": method.choose_norms(backbone)[0]},
        )
        identity = self._training_identity(
            options,
            _pretraining_identity(options),
            self._store_identity(source, method.transductive, reads_superpixels(options)),
        )
        whole = ("whole",) if method.transductive else ()
        name = f"{slug(options.method, *whole, backbone, f's{seed}')}-{short_hash(identity)}"
        return PretrainJob(id=f"pretrain.{name}", options=replace(options, out=self.out / "pretrain" / name))

    def _check_scaling(self, source: str) -> None:
        """Refuse an encoder that is pre-trained with another intensity scaling than the fine-tuning uses."""
        scales = [self.stores[name].intensity for name in (source, self.plan.train)]
        if scales[0] != scales[1]:
            described = [f"{scale.kind} {scale.low:g}…{scale.high:g}" for scale in scales]
            raise OptionError(
                f"{source} is scaled by {described[0]}, {self.plan.train} by {described[1]}",
                "give both the same modality and window (or percentiles) in the plan",
            )

    def _make_options(self, training: StudyTraining, grid: Values) -> Any:
        """The options of a training, except its folder, whose name contains a hash of them."""
        kind = training.OPTIONS.kind
        return kind(
            data=self.datasets[self.plan.train].job.options.out,
            out=self.out,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{f.name: grid[f.name] for f in fields(kind) if f.name in grid},
            **training.values,
        )

    def _make_model_job(
        self,
        method: MethodPlan,
        training: StudyTraining,
        options: Any,
        pretrain: PretrainJob | None,
        place: tuple[str, ...],
    ) -> ModelJob:
        identity = self._training_identity(
            options, training.identity(options), self._store_identity(self.plan.train, whole=False)
        )
        identity["encoder"] = None if pretrain is None else pretrain.id
        name = f"{slug(method.name, *place)}-{short_hash(identity)}"
        options = replace(options, out=self.out / "finetune" / name)

        def make_prediction_options(scans: ScansToSegment, out: Path) -> Any:
            return training.prediction_options(options, scans, out)

        return ModelJob(
            id=name,
            needs=() if pretrain is None else (pretrain.id,),
            training=type(training),
            options=options,
            tests=tuple(
                self._make_test_job(test, name, {}, type(training), make_prediction_options) for test in self.plan.tests
            ),
        )

    def _make_mask_job(
        self, method: MethodPlan, maker: MaskMaker, sources: Sequence[EvaluatedJob], place: tuple[str, ...]
    ) -> EvaluatedJob:
        """The job of a mask maker; without a model it is the same for every budget, draw and seed."""
        tests = [self._located[test.name] for test in self.plan.tests]
        identity = {**maker.identity(method.name, tests, sources), "frugalseg": __version__}
        name = f"{slug(method.name, *(place if sources else ()))}-{short_hash(identity)}"

        def make_mask_options(scans: ScansToSegment, out: Path) -> Any:
            return maker.mask_options(method.name, scans, sources, out)

        return EvaluatedJob(
            id=name,
            needs=tuple(source.id for source in sources),
            tests=tuple(
                self._make_test_job(test, name, maker.test_identity(scans), type(maker), make_mask_options)
                for test, scans in zip(self.plan.tests, tests, strict=True)
            ),
        )

    def _write_whole_split(self, source: str) -> Path:
        """A split whose training part is every patient."""
        store = self.stores[source]
        path = store.folder.with_name(f"{store.folder.name}.whole.json")
        write_json(path, {"train": store.patients, "validation": [], "test": []})
        return path

    def _store_identity(self, source: str, whole: bool, superpixels: bool = False) -> dict[str, str]:
        key = (source, whole, superpixels)
        if key not in self.store_identities:
            store = self.stores[source]
            split = store.split(self._write_whole_split(source) if whole else None)
            self.store_identities[key] = store.identity(split, superpixels)
        return self.store_identities[key]

    def _training_identity(
        self, options: Any, extra: Mapping[str, object], data: Mapping[str, str]
    ) -> dict[str, object]:
        """Everything that determines a training's result, as plain data.

        It contains the version of frugalseg, so that a study never mixes models of different versions.
        """
        left_out = WITHOUT_EFFECT | {"data", "split", "encoder"}
        determining = {
            name: value
            for name, value in to_plain_options(options).items()
            if name not in left_out and (name not in ADDED_LATER or value != ADDED_LATER[name])
        }
        return {**determining, **extra, "identity": dict(data), "frugalseg": __version__}

    def _make_test_job(
        self,
        test: TestPlan,
        trial: str,
        extra: Mapping[str, object],
        maker: MakesMasks,
        make_options: Callable[[ScansToSegment, Path], Any],
    ) -> TestJob:
        """The masks of a test set and their evaluation.

        Args:
            test: the test set.
            trial: id of the job.
            extra: what determines the masks besides that id and the scans.
            maker: makes the masks.
            make_options: its options, from the scans and the folder for the masks.
        """
        scans = self._located[test.name]
        known = [[scan.case, scan.fingerprint, scan.mask] for scan in self.scans[test.name]]
        identity = {"target": scans.target, "scans": known, **extra}
        folder = self.out / "tests" / trial / f"{slug(test.name)}-{short_hash(identity)}"
        evaluate = EvaluateOptions(
            predictions=folder / "masks",
            references=scans.references,
            case=list(scans.case),
            target=list(scans.target),
            out=folder / "evaluation",
            report=False,  # the study has one report; one per evaluation would take minutes each
            workers=self.threads,
            overwrite=True,
        )
        return TestJob(test.name, maker, make_options(scans, folder / "masks"), evaluate)


def _pretraining_identity(options: PretrainOptions) -> dict[str, object]:
    """What determines a pre-training besides its options."""
    method = resolve_method(options)
    identity: dict[str, object] = {
        "recipe": asdict(method.recipe),
        "head": None if method.head is None else asdict(method.head),
    }
    if options.weights is not None:
        identity["weights"] = sha256(options.weights)
    return identity
