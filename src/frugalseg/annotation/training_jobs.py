"""Jobs on all scans: train a model from the slices with a label, and predict the masks of the other slices."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from frugalseg.annotation.feature_cache import cache_words
from frugalseg.annotation.job_table import Job, JobError
from frugalseg.annotation.job_work import JobContext, JobWork, Step
from frugalseg.annotation.messages import JobOptions
from frugalseg.annotation.reviews import Review, read_expected_dice, read_reviews
from frugalseg.annotation.slices import LABELLED, Stroke
from frugalseg.annotation.trained import TrainedModel, remember_expected_dice
from frugalseg.annotation.training_plan import (
    LEAST_VALIDATED,
    STEPS,
    TrainingPlan,
    choose_size,
    is_frozen,
    plan_training,
)
from frugalseg.annotation.warm_start import WARM_STEPS, WarmStart, choose_start
from frugalseg.engine.files import MODEL_FILE
from frugalseg.options import FinetuneOptions
from frugalseg.records.annotations import ANNOTATIONS_FILE
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PredictionRecord
from frugalseg.text import name_some, pluralize


class TrainWork(JobWork):
    """Prepare the scans with a label, train, and predict every scan."""

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """See `JobWork`."""
        if not plan_training(context).targets:
            raise JobError("no slice with an outline shows anything yet", "outline a slice first")
        if options.size is not None and not 32 <= options.size <= 1024:
            raise JobError(f"slices of {options.size} pixels are not supported", "give 32 to 1024")
        if options.window is not None and not options.window[0] < options.window[1]:
            raise JobError("the lower value of the window is not below the upper one", "give for example -160 and 240")
        if options.steps is not None and not 1 <= options.steps <= 100_000:
            raise JobError(f"{options.steps} steps are not supported", "give 1 to 100000")

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """See `JobWork`."""
        plan, options = plan_training(context), job.options
        start = choose_start(context, plan, options)
        labels, images = job.folder / "labels", job.folder / "images"
        write_labels(context, plan.cases, labels)
        _link_scans(context, plan.cases, images)
        store, model = job.folder / "store", job.folder / "model"
        backbone = options.backbone or _default_backbone(plan, start, options)
        prepare = ["prepare", "--images", str(images), "--labels", str(labels), "--out", str(store), "--skip-broken"]
        prepare += context.target_words(plan.targets.values())
        prepare += _cold_words(options, backbone) if start is None else start.prepare_words(job.folder)
        finetune = ["finetune", "--data", str(store), "--out", str(model), "--resume", "auto", "--backbone", backbone]
        finetune += [*_length_words(options, STEPS if start is None else WARM_STEPS), *context.common_words()]
        finetune += [] if start is None else ["--init", str(start.model)]
        finetune += ["--cache", str(context.place.features)] if is_frozen(backbone) else []
        return [
            Step(prepare, "preparing the outlined scans"),
            Step(finetune, "training"),
            *_predict_steps(context, job, model, is_frozen(backbone)),
        ]

    def collect(self, context: JobContext, job: Job) -> str:
        """See `JobWork`."""
        record = SegmenterRecord.read_run(job.folder / "model")
        model = TrainedModel(
            folder=str((job.folder / "model").relative_to(context.place.out)),
            trained=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            slices=record.annotation.masks,
            dice=record.validation_dice,
            message=_describe_validation(record),
        )
        model.remember(context.slices.database)
        message = _collect_predictions(context, job)
        for name in ("store", "images"):  # large, and made again by the next training
            shutil.rmtree(job.folder / name, ignore_errors=True)
        begun = "" if record.initial_model is None else ", from the last model"
        return f"trained on {pluralize(model.slices, 'slice')}{begun}; {message}"


class PredictWork(JobWork):
    """Predict every scan with the last model."""

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """See `JobWork`."""
        _find_model(context)

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """See `JobWork`."""
        model = _find_model(context)
        return _predict_steps(context, job, model, SegmenterRecord.read_run(model).frozen_encoder is not None)

    def collect(self, context: JobContext, job: Job) -> str:
        """See `JobWork`."""
        return _collect_predictions(context, job)


def _default_backbone(plan: TrainingPlan, start: WarmStart | None, options: JobOptions) -> str:
    if options.recipe == "best":
        return FinetuneOptions.backbone
    return plan.backbone if start is None else start.record.backbone


def _length_words(options: JobOptions, steps: int) -> list[str]:
    """--steps of a quick training, or the recipe, which has its own number."""
    words = ["--preset", "best"] if options.recipe == "best" else []
    given = options.steps or (steps if options.recipe == "quick" else None)
    return words if given is None else [*words, "--steps", str(given)]


def _cold_words(options: JobOptions, backbone: str) -> list[str]:
    """Options of `prepare` for a training from initial weights: a split at random, and what was asked for."""
    words = ["--size", str(options.size or choose_size(backbone)), "--fractions", "0.15", "0"]
    words += [] if options.modality is None else ["--modality", options.modality]
    return words if options.window is None else [*words, "--window", *(f"{value:g}" for value in options.window)]


def _find_model(context: JobContext) -> Path:
    model = TrainedModel.find(context.slices.database)
    if model is None or not (model.path(context.place.out) / MODEL_FILE).is_file():
        raise JobError("there is no trained model yet", "train first")
    return model.path(context.place.out)


def write_labels(context: JobContext, cases: Iterable[str], folder: Path) -> None:
    """Write the masks of the slices with a label, and last the record of these slices; once for each job."""
    if (folder / ANNOTATIONS_FILE).is_file():
        return
    for case in cases:
        context.write_masks(case, folder, LABELLED)
    context.saver.make_record(LABELLED, cases).write(folder / ANNOTATIONS_FILE)


def _link_scans(context: JobContext, cases: Iterable[str], folder: Path) -> None:
    """Links to the scans of some cases: a training needs no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        _link_scan(case, context.scans.path(case), folder)


def _link_scan(case: str, path: Path, folder: Path) -> None:
    """Links to a scan, under the name of its case; a header file keeps its name, as does the file of its voxels."""
    beside = [path]
    if path.suffix.lower() in (".mhd", ".nhdr"):
        beside = [other for other in path.parent.iterdir() if other.name.startswith(f"{path.stem}.")]
    for file in beside:
        name = f"{case}{_suffix(file)}" if len(beside) == 1 else file.name
        if not (folder / name).exists():
            (folder / name).symlink_to(file.resolve(), target_is_directory=file.is_dir())


def _suffix(path: Path) -> str:
    """What follows the case id in the name of a scan: `.nii.gz`; nothing for a folder of DICOM files."""
    from frugalseg.imaging.formats import scan_suffix, zarr_suffix

    return scan_suffix(path) or zarr_suffix(path) or ("" if path.is_dir() else path.suffix)


def _cases_to_predict(context: JobContext) -> list[str]:
    summaries = context.cases.summaries(context.scans.paths)
    return [summary.id for summary in summaries if summary.state not in ("reviewed", "unreadable")]


def _predict_steps(context: JobContext, job: Job, model: Path, frozen: bool) -> list[Step]:
    """Predict the scans that have slices without a label."""
    cases = _cases_to_predict(context)
    if not cases:
        return []
    words = ["predict", "--model", str(model), *context.image_words(), "--out", str(job.folder / "masks")]
    words += ["--resume", "auto", *context.common_words()]
    if len(cases) < len(context.scans.paths):
        words += ["--case", *cases]
    words += cache_words(context, cases) if frozen else []
    return [Step(words, "predicting all scans", may_fail=True)]


def _collect_predictions(context: JobContext, job: Job) -> str:
    """Take over the predicted masks, in slices that nobody has outlined or reviewed and nothing was propagated to."""
    record = PredictionRecord.read_beside(job.folder / "masks") if (job.folder / "masks").is_dir() else None
    if record is None or not record.masks:
        if record is not None and record.failed:
            raise JobError("no scan could be predicted", next(iter(record.failed.values())))
        if _cases_to_predict(context):  # the command has ended before the first scan
            raise JobError("no scan could be predicted", f"see {job.log}")
        return "every scan is reviewed"

    masks = job.folder / "masks"
    for case, name in record.masks.items():
        if case in context.scans.paths:
            reviews = read_reviews(masks / f"{case}.slices.csv")
            context.take_over(case, masks / name, StrokeMaker(job.id, reviews), (None, "predicted"))
    remember_expected_dice(context.slices.database, read_expected_dice(masks / "confidence.csv"))
    for case, why in record.failed.items():
        context.cases.noticed(case, why)
    message = f"predicted {pluralize(len(record.masks), 'scan')}"
    return f"{message}; not {name_some(record.failed)}" if record.failed else message


@dataclass(frozen=True)
class StrokeMaker:
    """Makes the change of a slice from its predicted mask.

    What the model sees in a few of its own pixels may be nothing on the grid of the scan. The confidence in such a mask
    is near 0, so that empty slices would be the least certain ones of all; it is left out.
    """

    job: int
    reviews: Mapping[int, Review]

    def __call__(self, z: int, plane: np.ndarray) -> Stroke:
        """The change of slice `z` to a mask (rows, columns)."""
        confidence, review = self.reviews.get(z, (None, "")) if plane.any() else (None, "")
        return Stroke(plane, "predict", f"job {self.job}", "", 0.0, "predicted", confidence, review)


def _describe_validation(record: SegmenterRecord) -> str:
    scans = record.annotation.validation_scans
    if record.validation_dice is None or not scans:
        return f"no validation scan: outline slices of {LEAST_VALIDATED} scans to learn how good the model is"
    return f"Dice {record.validation_dice:.2f} on {pluralize(scans, 'validation scan')}, too few for a promise"
