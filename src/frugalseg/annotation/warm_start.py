"""What a training starts from: the last model, whose weights fewer steps adapt to new slices, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.annotation.job_work import JobContext
from frugalseg.annotation.messages import JobOptions, TrainingMessage
from frugalseg.annotation.trained import TrainedModel
from frugalseg.annotation.training_plan import LEAST_VALIDATED, STEPS, TrainingPlan, choose_size, plan_training
from frugalseg.engine.files import MODEL_FILE
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.text import pluralize

WARM_STEPS = 100
"""Default number of optimiser steps of a training that starts from the last model."""


@dataclass(frozen=True)
class WarmStart:
    """The last model, as the start of the next training.

    Attributes:
        model: its run folder.
        record: its model.json.
        train, validation: the cases of the next training. Its validation cases are those of the last one; where more
            are due, cases that no model has learned from.
    """

    model: Path
    record: SegmenterRecord
    train: tuple[str, ...]
    validation: tuple[str, ...]

    def fits(self, options: JobOptions) -> bool:
        """Whether a training with these options makes a model of the same kind; what they leave out is as before."""
        before, scale = self.record, self.record.preprocessing.intensity
        return (
            options.backbone in (None, before.backbone)
            and options.size in (None, before.preprocessing.size)
            and options.modality in (None, scale.kind)
            and (options.window is None or tuple(options.window) == (scale.low, scale.high))
        )

    def prepare_words(self, folder: Path) -> list[str]:
        """Options of `prepare`: its split, which is written into `folder`, and the model's size and intensities."""
        scale = self.record.preprocessing.intensity
        split = folder / "split.json"
        if not split.is_file():  # a resumed job must find the same
            Split(self.train, self.validation, ()).write(split)
        bounds = "--window" if scale.kind == "ct" else "--percentiles"
        return [
            *("--split", str(split), "--size", str(self.record.preprocessing.size)),
            *("--modality", scale.kind, bounds, f"{scale.low:g}", f"{scale.high:g}"),
        ]


def find_warm_start(context: JobContext, plan: TrainingPlan) -> tuple[WarmStart | None, str]:
    """The last model as a start, or None and why it cannot be."""
    model = TrainedModel.find(context.slices.database)
    if model is None or not (model.path(context.place.out) / MODEL_FILE).is_file():
        return None, "there is no model yet"
    record = SegmenterRecord.read_run(model.path(context.place.out))
    wanted = {name: [value] for name, value in plan.targets.items()}
    if {name: list(values) for name, values in record.targets.items()} != wanted:
        return None, f"the last model has other labels ({', '.join(record.targets)})"
    validation = _choose_validation(record, plan)
    train = tuple(case for case in plan.cases if case not in validation)
    if not train or (plan.validation and not validation):
        return None, "the last model has learned from every scan that could be kept for validation"
    return WarmStart(model.path(context.place.out), record, train, validation), ""


def _choose_validation(record: SegmenterRecord, plan: TrainingPlan) -> tuple[str, ...]:
    role_of = {scan.case: scan.role for scan in record.scans}
    kept = [case for case in plan.cases if role_of.get(case) == "validation"]
    unseen = [case for case in plan.cases if role_of.get(case, "unused") in ("unused", "test")]
    return (*kept, *unseen[: max(0, plan.validation - len(kept))])


def describe_training(context: JobContext) -> TrainingMessage:
    """What a training would do now, for the page."""
    plan = plan_training(context)
    warm, why_not = find_warm_start(context, plan)
    backbone = plan.backbone if warm is None else warm.record.backbone
    return TrainingMessage(
        ready=bool(plan.targets),
        message=_describe(plan),
        size=choose_size(backbone) if warm is None else warm.record.preprocessing.size,
        steps=STEPS,
        warm_steps=None if warm is None else WARM_STEPS,
        cold_reason=why_not,
        backbone=backbone,
        modality=plan.modality,
        targets=list(plan.targets),
        slices=plan.slices,
        cases=len(plan.cases),
        validation=plan.validation if warm is None else len(warm.validation),
    )


def _describe(plan: TrainingPlan) -> str:
    if not plan.targets:
        return "outline a slice that shows something first"
    if plan.validation:
        return f"{pluralize(plan.validation, 'scan')} for validation"
    return f"no validation: that needs slices of {LEAST_VALIDATED} scans"


def choose_start(context: JobContext, plan: TrainingPlan, options: JobOptions) -> WarmStart | None:
    """What a training with these options starts from; None for initial weights."""
    warm = find_warm_start(context, plan)[0]
    wanted = not options.from_scratch and options.recipe == "quick"
    return warm if warm is not None and wanted and warm.fits(options) else None
