"""What `--json` prints: the record of `commands.result_records` that each command's result becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET

from frugalseg.commands.result_records import (
    CalibrationResult,
    CalibrationsResult,
    DetectionResult,
    EncoderResult,
    EvaluationResult,
    ExportResult,
    MasksResult,
    ModelResult,
    PathResult,
    PublishedResult,
    ScriptResult,
    StatusResult,
    StoreResult,
    SuggestionsResult,
    TrainingResult,
    Trust,
    VerifiedResult,
    WeightsResult,
)
from frugalseg.options import CalibrateOptions, EvaluateOptions, FinetuneOptions, SamMixTrainOptions
from frugalseg.records.confidence import OrganConfidence
from frugalseg.records.networks import EncoderRecord, SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.record import Content, finite_or_none
from frugalseg.records.sam_mix import SamMixRecord


def _store(options: Any, store: Any) -> StoreResult:
    record = store.record
    return StoreResult(
        store=store.folder,
        scans=len(record.scans),
        patients=len({scan.patient for scan in record.scans}),
        slices=sum(scan.slices for scan in record.scans),
        labelled_scans=sum(scan.labels_sha256 is not None for scan in record.scans),
        size=record.parameters.size,
        organs=dict(record.parameters.targets),
    )


def _encoder(options: Any, run: Any) -> EncoderResult:
    record = EncoderRecord.read_run(run.path)
    return EncoderResult(
        run=run.path, method=record.method, backbone=record.backbone, scans=record.annotation.scans_seen
    )


def _training(options: FinetuneOptions | SamMixTrainOptions, runs: Any) -> TrainingResult:
    kind = SamMixRecord if isinstance(options, SamMixTrainOptions) else SegmenterRecord
    models = tuple(_model(run.path, kind) for run in (runs if isinstance(runs, list) else [runs]))
    known = [model.validation_dice for model in models if model.validation_dice is not None]
    return TrainingResult(out=options.out, models=models, validation_dice=sum(known) / len(known) if known else None)


def _model(run: Path, kind: type[SamMixRecord | SegmenterRecord]) -> ModelResult:
    record = kind.read_run(run)
    return ModelResult(
        run=run,
        organs=record.targets,
        step=record.step,
        validation_dice=record.validation_dice,
        validation_dice_of_organs=record.validation_dice_of_organs,
        masks=record.annotation.masks,
        masks_of_scans=record.annotation.mask_scans,
    )


def _calibrations(options: CalibrateOptions, record: Any) -> CalibrationsResult:
    found = record.calibration if isinstance(record, SegmenterRecord) else {"propagation": record.organs}
    out = options.model or options.propagated
    assert out is not None
    return CalibrationsResult(
        out=out,
        calibrations=tuple(
            CalibrationResult(
                masks=source,
                organ=organ,
                patients=own.patients,
                scans_hold=own.scans.holds_for,
                slices_hold=own.slices.holds_for,
            )
            for source, organs in found.items()
            for organ, own in organs.items()
        ),
    )


def _masks(options: Any, masks: Mapping[str, Path]) -> MasksResult:
    record = PredictionRecord.read(options.out / PREDICTIONS_FILE)
    return MasksResult(
        out=options.out,
        masks=dict(masks),
        organs=dict(record.targets),
        roles=None if record.roles is None else dict(record.roles),
        confidence={case: {o: _trust(own) for o, own in organs.items()} for case, organs in record.confidence.items()},
    )


def _trust(own: OrganConfidence) -> Trust:
    return Trust(confidence=own.confidence, expected_dice=own.expected_dice, lower_bound=own.lower_bound)


def _evaluation(options: EvaluateOptions, summary: Any) -> EvaluationResult:
    return EvaluationResult(
        out=options.out,
        report=options.out / "report.html" if options.report else None,
        headline=summary.headline,
        groups=summary.groups,
        not_predicted=summary.not_predicted,
    )


def _path(options: Any, path: Path) -> PathResult:
    return PathResult(path=path)


@dataclass(frozen=True)
class JsonResult:
    """What `--json` prints for a command.

    Attributes:
        kind: class of the result.
        make: options and what the command's function returned → result.
    """

    kind: type[Any]
    make: Callable[[Any, Any], Any]


RESULTS: dict[str, JsonResult] = {
    "demo": JsonResult(PathResult, _path),
    "annotate": JsonResult(PathResult, _path),
    "prepare": JsonResult(StoreResult, _store),
    "prepare superpixels": JsonResult(StoreResult, _store),
    "pretrain": JsonResult(EncoderResult, _encoder),
    "finetune": JsonResult(TrainingResult, _training),
    "calibrate": JsonResult(CalibrationsResult, _calibrations),
    "predict": JsonResult(MasksResult, _masks),
    "refine": JsonResult(MasksResult, _masks),
    "propagate": JsonResult(MasksResult, _masks),
    "suggest": JsonResult(
        SuggestionsResult, lambda options, record: SuggestionsResult(out=options.out, suggestions=record.suggestions)
    ),
    "evaluate": JsonResult(EvaluationResult, _evaluation),
    "export": JsonResult(ExportResult, lambda options, recipe: ExportResult(out=options.out, recipe=recipe)),
    "push": JsonResult(
        PublishedResult, lambda options, revision: PublishedResult(repo=options.repo, revision=revision, out=None)
    ),
    "pull": JsonResult(
        PublishedResult,
        lambda options, pulled: PublishedResult(repo=pulled.repo, revision=pulled.revision, out=options.out),
    ),
    "sam-mix train": JsonResult(TrainingResult, _training),
    "sam-mix predict": JsonResult(MasksResult, _masks),
    "sam-mix evaluate": JsonResult(
        DetectionResult, lambda options, groups: DetectionResult(out=options.out, groups=groups)
    ),
    "study": JsonResult(PathResult, _path),
    "study status": JsonResult(
        StatusResult,
        lambda options, found: StatusResult(
            name=found.name, runs=found.runs, running=found.running, failed=found.failed
        ),
    ),
    "report": JsonResult(PathResult, _path),
    "weights list": JsonResult(
        WeightsResult, lambda options, found: WeightsResult(folder=found.folder, weights=found.weights)
    ),
    "weights fetch": JsonResult(PathResult, _path),
    "weights import": JsonResult(PathResult, _path),
    "completion": JsonResult(ScriptResult, lambda options, script: ScriptResult(script=script)),
    "weights verify": JsonResult(VerifiedResult, lambda options, unchanged: VerifiedResult(unchanged=unchanged)),
}
"""Command → its result."""


def to_json_result(name: str, options: Any, returned: Any, seconds: float) -> Content:
    """What `--json` prints: the command, the version of frugalseg, the time it took, and its result."""
    from frugalseg._version import __version__

    return {
        "command": name,
        "version": __version__,
        "seconds": round(seconds, 3),
        "result": to_json_value(RESULTS[name].make(options, returned)),
    }


def to_json_value(value: Any) -> Any:
    """A result as JSON values: paths are texts, numbers that are not finite are null, what is unset is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        given = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: to_json_value(own) for name, own in given if own is not UNSET}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(own) for own in value]
    if isinstance(value, float):
        return finite_or_none(value)
    return str(value) if isinstance(value, Path) else value
