"""What `--json` prints: the result of every command as a typed record.

`RESULTS` is the only description of it: docs/reference/json.md is made from these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET

from frugalseg.options import CalibrateOptions, EvaluateOptions, FinetuneOptions, SamMixTrainOptions
from frugalseg.records.confidence import OrganConfidence
from frugalseg.records.model import EncoderRecord, SamMixRecord, SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.recipe import ExportRecipe
from frugalseg.records.record import Content, finite_or_none
from frugalseg.records.suggestions import Suggestion
from frugalseg.records.summary import GroupSummary

Organs = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class StoreResult:
    """A slice store.

    Attributes:
        store: its folder.
        scans, patients, slices: numbers of them.
        labelled_scans: scans with a mask.
        size: side of the slices, pixels.
        organs: organ → label values.
    """

    store: Path
    scans: int
    patients: int
    slices: int
    labelled_scans: int
    size: int
    organs: Organs


@dataclass(frozen=True, kw_only=True)
class EncoderResult:
    """A pre-trained encoder.

    Attributes:
        run: its run folder, for `finetune --encoder`.
        method: pre-training method.
        backbone: its network.
        scans: scans that it was trained on.
    """

    run: Path
    method: str
    backbone: str
    scans: int


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """A trained model.

    Attributes:
        run: its run folder, for `predict --model`.
        organs: organ → label values.
        step: training step of its weights.
        validation_dice: Dice at that step; null where no validation patient has labels.
        validation_dice_of_organs: organ → its Dice at that step.
        masks: slices whose masks were trained on.
        masks_of_scans: their scans.
    """

    run: Path
    organs: Organs
    step: int
    validation_dice: float | None
    validation_dice_of_organs: dict[str, float]
    masks: int
    masks_of_scans: int


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Trained models.

    Attributes:
        out: the folder of the run, or of the folds.
        models: the model, or one for each fold.
        validation_dice: the mean of the models that were validated; null without any.
    """

    out: Path
    models: tuple[ModelResult, ...]
    validation_dice: float | None


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """How far the masks of one organ may be trusted.

    Attributes:
        masks: what the confidence is computed from: probabilities, agreement or propagation.
        organ: the organ.
        patients: validation patients with a mask of it.
        scans_hold, slices_hold: fraction of patients for which the bound holds; null with too few for a bound.
    """

    masks: str
    organ: str
    patients: int
    scans_hold: float | None
    slices_hold: float | None


@dataclass(frozen=True, kw_only=True)
class CalibrationsResult:
    """Calibrations that were written.

    Attributes:
        out: the model, or the folder of the propagated masks.
        calibrations: one for each organ and kind of mask.
    """

    out: Path
    calibrations: tuple[CalibrationResult, ...]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """How far one mask may be trusted.

    Attributes:
        confidence: 0…1.
        expected_dice: the Dice that such masks had on average on the validation patients; null without calibration.
        lower_bound: the Dice is above it in nine of ten scans; null without a bound.
    """

    confidence: float
    expected_dice: float | None
    lower_bound: float | None


@dataclass(frozen=True, kw_only=True)
class MasksResult:
    """Masks of whole scans.

    Attributes:
        out: their folder.
        masks: case id → file.
        organs: organ → label values in the masks.
        roles: case id → what the model saw of the scan; null where that is not known.
        confidence: case id → organ → how far its mask may be trusted.
    """

    out: Path
    masks: dict[str, Path]
    organs: Organs
    roles: dict[str, str] | None
    confidence: dict[str, dict[str, Trust]]


@dataclass(frozen=True, kw_only=True)
class SuggestionsResult:
    """Slices to outline next.

    Attributes:
        out: folder of suggestions.json and the pictures.
        suggestions: the most useful first; keys as in suggestions.json.
    """

    out: Path
    suggestions: tuple[Suggestion, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Metrics of masks.

    Attributes:
        out: folder of cases.csv, cases.json and summary.json.
        report: the page; null with --report=false.
        headline: group whose means are the result; null where the model has seen every scan.
        groups: group → its figures; keys as in summary.json.
        not_predicted: case id → why it has no mask.
    """

    out: Path
    report: Path | None
    headline: str | None
    groups: dict[str, GroupSummary]
    not_predicted: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """How well a classifier detected organs.

    Attributes:
        out: file with these figures.
        groups: group of scans → its cases, and organ → figures for slices and for scans.
    """

    out: Path
    groups: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """An exported model.

    Attributes:
        out: its folder.
        recipe: content of recipe.json.
    """

    out: Path
    recipe: ExportRecipe


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """A published or fetched model.

    Attributes:
        repo: repository or folder, as given.
        revision: commit of the repository; of a folder the SHA-256 of its files.
        out: the folder of a fetched model; null for a published one.
    """

    repo: str
    revision: str
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class PathResult:
    """One file or folder.

    Attributes:
        path: the report, or the folder of annotations, or the installed weights.
    """

    path: Path


@dataclass(frozen=True, kw_only=True)
class ScriptResult:
    """A script for a shell.

    Attributes:
        script: its text.
    """

    script: str


@dataclass(frozen=True, kw_only=True)
class StatusResult:
    """The progress of a study.

    Attributes:
        name: of the plan.
        runs: state of a run → how many there are.
        running: whether a process works on the study; null where that is unknown.
        failed: job → the first line of its error.
    """

    name: str
    runs: dict[str, int]
    running: bool | None
    failed: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class WeightsResult:
    """Weights of promptable models.

    Attributes:
        folder: where weights are installed.
        weights: name → title, installed (path or null), checked, megabytes, licence, sha256.
    """

    folder: Path
    weights: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class VerifiedResult:
    """Installed weights that are unchanged.

    Attributes:
        unchanged: name → SHA-256.
    """

    unchanged: dict[str, str]


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
