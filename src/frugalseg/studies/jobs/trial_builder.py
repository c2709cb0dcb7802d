"""What fills a place of the grid: its jobs, each named after all that shapes its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from frugalseg._version import __version__
from frugalseg.engine.files import sha256, write_json
from frugalseg.engine.run import NOT_SCIENCE, plain
from frugalseg.errors import OptionError
from frugalseg.options import (
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PretrainOptions,
    PropagateOptions,
    RefineOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
)
from frugalseg.options.common import Modality, told_modality
from frugalseg.pretraining.methods import chosen_method, reads_superpixels
from frugalseg.promptable.load import find_weights
from frugalseg.segmentation.presets import PRESETS
from frugalseg.studies.jobs.datasets import Source, locate_masks, tested_scans
from frugalseg.studies.jobs.job import Carry, EvaluatedJob, Make, ModelJob, PretrainJob, Take, TestJob, short_hash, slug
from frugalseg.studies.jobs.other_masks import LISTED
from frugalseg.studies.jobs.trials import Trial
from frugalseg.studies.plan.plan import SHOWN, Further, MethodPlan, OtherMasks, Plan, TestPlan, Training, of_plan

CHECKPOINT_MINUTES = 0.5


@dataclass(frozen=True)
class Cell:
    """One place of the grid.

    Attributes:
        trial: the draws and seeds that it stands for; `draw` and `seed` name it.
        guided: whether references of the test scans are used, so that it is no method among others.
        annotation: of masks that another program made: what it learned from, as the plan states it.
        job: what makes and evaluates its masks.
        model: what trains its model: `job` itself, or what `job` goes on with; None where there is none.
        pretrain: what makes the model's encoder, or None.
    """

    method: str
    backbone: str
    budget: str
    trial: Trial
    transductive: bool
    guided: bool
    annotation: str | None
    job: EvaluatedJob
    model: ModelJob | None
    pretrain: PretrainJob | None

    @property
    def draw(self) -> int:
        """The first of the draws that it stands for."""
        return self.trial.draws[0]

    @property
    def seed(self) -> int:
        """The first of the seeds that it stands for."""
        return self.trial.seeds[0]


class CellBuilder:
    """Makes the cells of a plan whose data sets are prepared.

    Args:
        plan: of the study.
        sources: its data sets.
        out: the study's folder.
        threads: CPU threads of a job.

    Attributes:
        scans: test set → its scans.
    """

    def __init__(self, plan: Plan, sources: Mapping[str, Source], out: Path, threads: int) -> None:
        self.plan, self.sources, self.out, self.threads = plan, sources, out, threads
        self.scans = {test.name: tested_scans(test, sources) for test in plan.tests}
        self.stores = {name: source.store for name, source in sources.items() if not source.job.look}
        self.identities: dict[tuple[str, bool, bool], dict[str, str]] = {}

    def cell(self, method: MethodPlan, backbone: str, budget: str, trial: Trial) -> Cell:
        """The cell of a trial of a method."""
        draw, seed = trial.run
        place = (backbone, budget, f"d{draw}", f"s{seed}")
        pretrain = None if method.pretrain is None else self._pretrain(method, method.pretrain, backbone, seed)
        model = None
        if method.training is not None:
            grid = {"budget": budget, "draw": draw, "seed": seed, "backbone": backbone}
            model = self._model(method, self._training(method, method.training, pretrain, grid), pretrain, place)
        job: EvaluatedJob | None = model
        if method.further is not None:
            job = self._further(method, method.further, model, place)
        if method.other is not None:
            job = self._others(method, method.other)
        assert job is not None  # a method trains, goes on with masks, or takes those of another program
        return Cell(
            method=method.name,
            backbone=backbone,
            budget=budget,
            trial=trial,
            transductive=method.transductive,
            guided=method.guided,
            annotation=None if method.other is None else method.other.annotation,
            job=job,
            model=model,
            pretrain=pretrain,
        )

    def _pretrain(self, method: MethodPlan, values: Mapping[str, Any], backbone: str, seed: int) -> PretrainJob:
        source = method.pretrain_data
        self._check_scaling(source)
        options = PretrainOptions(
            data=self.sources[source].job.options.out,
            out=self.out,
            split=self._whole_split(source) if method.transductive else None,
            seed=seed,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{**values, "backbone": backbone, "norm": method.norms(backbone)[0]},
        )
        science = self._science(options, self._identity(source, method.transductive, reads_superpixels(options)))
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

    def _training(
        self, method: MethodPlan, training: Training, pretrain: PretrainJob | None, grid: Mapping[str, Any]
    ) -> FinetuneOptions | SamMixTrainOptions:
        """The options of a training, but for its folder, whose name tells them."""
        options = training.kind(
            data=self.sources[self.plan.train].job.options.out,
            out=self.out,
            resume="auto",
            checkpoint_minutes=CHECKPOINT_MINUTES,
            **{f.name: grid[f.name] for f in fields(training.kind) if f.name in grid},
            **training.values,
        )
        if isinstance(options, FinetuneOptions):
            encoder = None if pretrain is None else pretrain.options.out
            return replace(options, encoder=encoder, transductive=method.transductive)
        assert isinstance(options, SamMixTrainOptions)
        return options

    def _model(
        self,
        method: MethodPlan,
        options: FinetuneOptions | SamMixTrainOptions,
        pretrain: PretrainJob | None,
        place: tuple[str, ...],
    ) -> ModelJob:
        science = self._science(options, self._identity(self.plan.train, whole=False))
        science["encoder"] = None if pretrain is None else pretrain.id
        name = f"{slug(method.trained_as, *place)}-{short_hash(science)}"
        options = replace(options, out=self.out / "finetune" / name)
        again = PredictOptions if isinstance(options, FinetuneOptions) else SamMixPredictOptions

        def make(test: TestPlan, common: Mapping[str, Any]) -> Make:
            values = {"modality": self._modality(test), **common}
            return again(model=options.out, device=options.device, precision=options.precision, **values)

        return ModelJob(
            id=name,
            needs=() if pretrain is None else (pretrain.id,),
            options=options,
            tests=tuple(self._test(test, name, {}, make) for test in self.plan.tests),
        )

    def _further(
        self, method: MethodPlan, further: Further, model: ModelJob | None, place: tuple[str, ...]
    ) -> EvaluatedJob:
        """New masks of a model's masks; without a model they are the same for every budget, draw and seed."""
        options = of_plan(further.kind, further.values)
        science: dict[str, Any] = {"command": further.kind.__name__, "values": plain(options), "oracle": further.oracle}
        science |= {"of": None if model is None else model.id, "frugalseg": __version__}
        if not isinstance(options, SamMixPredictOptions):
            science["weights"] = _weights_sha256(options.model)
        name = f"{slug(method.name, *(() if model is None else place))}-{short_hash(science)}"
        make = partial(self._remake, further, model)
        return EvaluatedJob(
            id=name,
            needs=() if model is None else (model.id,),
            tests=tuple(self._test(t, name, _shown(self.sources[t.data]), make) for t in self.plan.tests),
        )

    def _remake(self, further: Further, model: ModelJob | None, test: TestPlan, common: Mapping[str, Any]) -> Make:
        """What makes those masks of a test set."""
        source = self.sources[test.data]
        oracle = {"oracle": source.references} if further.oracle else {}
        values = {**common, **oracle, **further.values}
        if further.kind is SamMixPredictOptions:
            assert model is not None
            return SamMixPredictOptions(model=model.options.out, **{"modality": self._modality(test), **values})
        values = {**_shown(source), **values}
        if values.get("engine") != "sam2":  # whose memory no cache can stand in for
            values["cache"] = self.out / "embeddings"
        if model is None:
            masks = source.references
        else:
            (masks,) = (one.evaluate.predictions for one in model.tests if one.name == test.name)
        if further.kind is RefineOptions:
            return RefineOptions(masks=masks, **values)
        annotations = common["out"].with_name("annotations")
        return Carry(masks, model is None, PropagateOptions(annotations=annotations, **values))

    def _modality(self, test: TestPlan) -> Modality:
        """What models are told that a test set is: what they know, where the plan says what its scans are."""
        if told_modality(self.sources[test.data].job.options) == "auto":
            return "auto"
        return self.stores[self.plan.train].intensity.kind

    def _others(self, method: MethodPlan, other: OtherMasks) -> EvaluatedJob:
        """Masks that another program made, known by their content; the same for every budget, draw and seed."""
        jobs = {test.name: locate_masks(method, test, self.sources, self.out) for test in self.plan.tests}
        listed = {name: [[m["case"], m["sha256"]] for m in LISTED.read(job.out)["masks"]] for name, job in jobs.items()}
        science = {"masks": listed, "target": [job.target for job in jobs.values()], "frugalseg": __version__}
        name = f"{slug(method.name)}-{short_hash(science)}"

        def make(test: TestPlan, common: Mapping[str, Any]) -> Make:
            job = jobs[test.name]
            return Take(job.images, job.masks, job.case, job.target, tuple(common["target"]), common["out"])

        return EvaluatedJob(id=name, tests=tuple(self._test(test, name, {}, make) for test in self.plan.tests))

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

    def _science(
        self, options: PretrainOptions | FinetuneOptions | SamMixTrainOptions, data: Mapping[str, str]
    ) -> dict[str, Any]:
        """All that shapes a training's result, as plain data: what a name stands for, too, so that no model of a newer
        frugalseg stands beside those of an older one."""
        left_out = NOT_SCIENCE | {"data", "split", "encoder"}
        science = {name: value for name, value in plain(options).items() if name not in left_out}
        if isinstance(options, SamMixTrainOptions):
            science["base_weights"] = _weights_sha256(options.base)
        elif options.weights is not None:
            science["weights"] = sha256(options.weights)
        if isinstance(options, PretrainOptions):
            method = chosen_method(options)
            science["recipe"] = asdict(method.recipe)
            science["head"] = None if method.head is None else asdict(method.head)
        elif isinstance(options, FinetuneOptions):
            if options.refine is not None:
                science["refine_weights"] = _weights_sha256(options.refine)
            science["preset_content"] = asdict(PRESETS[options.preset])
        return {**science, "identity": dict(data), "frugalseg": __version__}

    def _test(
        self,
        test: TestPlan,
        cell: str,
        more: Mapping[str, Any],
        make: Callable[[TestPlan, Mapping[str, Any]], Make],
    ) -> TestJob:
        """Masks of a test set, and their evaluation.

        Args:
            test: the test set.
            cell: id of the job.
            more: what else shapes the masks, and is not in that id.
            make: what makes them, given the test set and the options that are common to all that make masks.
        """
        source = self.sources[test.data]
        scans, target = self.scans[test.name], source.job.options.target
        science = {"target": target, "scans": [[s.case, s.fingerprint, s.mask] for s in scans], **more}
        folder = self.out / "tests" / cell / f"{slug(test.name)}-{short_hash(science)}"
        common: dict[str, Any] = {
            "images": source.job.options.images,
            "out": folder / "masks",
            "case": [scan.case for scan in scans],
            "target": target,
            "overwrite": True,
            "resume": "auto",
        }
        evaluate = EvaluateOptions(
            predictions=folder / "masks",
            references=source.references,
            case=common["case"],
            target=target,
            out=folder / "evaluation",
            report=False,  # one of the whole study tells more than hundreds, and they take minutes
            workers=self.threads,
            overwrite=True,
        )
        return TestJob(test.name, make(test, common), evaluate)


def _shown(source: Source) -> dict[str, Any]:
    """How a data set's intensities become grey values."""
    return {name: getattr(source.job.options, name) for name in SHOWN}


@cache
def _weights_sha256(name: str) -> str:
    return sha256(find_weights(name))
