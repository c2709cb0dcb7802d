"""The results of commands as `--json` prints them; docs/reference/json.md is made from these classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.records.recipe import ExportRecipe
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
