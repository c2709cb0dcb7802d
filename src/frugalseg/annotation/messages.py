"""The JSON of the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frugalseg.annotation.cases import CaseSummary
from frugalseg.annotation.display import Window
from frugalseg.annotation.labels import Label
from frugalseg.annotation.slices import SliceState, Source

JobKind = Literal["propagate", "refine", "suggest", "train", "predict"]
JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True)
class ErrorMessage:
    """What went wrong, in a sentence, and what to do."""

    message: str
    hint: str


@dataclass(frozen=True)
class PromptableMessage:
    """The promptable model; `name` is None where it cannot be used, and `message` says what is missing."""

    name: str | None
    message: str


@dataclass(frozen=True)
class Suggestion:
    """The slice to outline next, and why."""

    case: str
    slice: int
    reason: str


@dataclass(frozen=True)
class ModelMessage:
    """The model of the last training: when, from how many slices, and its Dice on validation patients if any."""

    trained: str
    slices: int
    dice: float | None
    message: str


@dataclass(frozen=True)
class ExpectedDice:
    """Dice to expect, mean over the predicted scans; `low` is the mean of their lower bounds, there is no upper one."""

    estimate: float
    low: float | None
    high: float | None
    reason: str


@dataclass(frozen=True)
class Meter:
    """Effort so far: minutes of drawing, slices with a label, scans that have some."""

    minutes: float
    slices: int
    cases: int
    expected_dice: ExpectedDice | None
    message: str


@dataclass(frozen=True)
class StateMessage:
    """Everything that the page shows besides the open case."""

    version: str
    folder: str
    out: str
    cases: list[CaseSummary]
    labels: list[Label]
    promptable: PromptableMessage
    suggestion: Suggestion | None
    model: ModelMessage | None
    meter: Meter
    references: bool
    read_only: bool
    disk: str
    notice: str


@dataclass(frozen=True)
class SliceMessage:
    """One slice; see `SliceState`."""

    slice: int
    source: Source | None
    confidence: float | None
    review: str
    version: int
    labels: list[int]

    @classmethod
    def of(cls, state: SliceState) -> SliceMessage:
        """The message about a slice."""
        return cls(state.slice, state.source, state.confidence, state.review, state.version, list(state.labels))


@dataclass(frozen=True)
class CaseMessage:
    """An opened case: columns, rows and slices, mm, axes of its file, windows, and its slices."""

    id: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    message: str
    windows: list[Window]
    range: tuple[float, float]
    version: int
    saved: bool
    others: int
    slices: list[SliceMessage]


@dataclass(frozen=True)
class Changed:
    """A slice after a change: its version, that of its case, and where its mask is from."""

    version: int
    case_version: int
    source: Source | None


@dataclass(frozen=True)
class ConflictMessage:
    """A refused change: the present version, and who made it."""

    message: str
    hint: str
    version: int
    by: str


@dataclass(frozen=True)
class PromptMessage:
    """A box (first column, first row, columns and rows after the last) and points (column, row, 1 or 0)."""

    box: tuple[float, float, float, float] | None = None
    points: list[tuple[float, float, int]] = field(default_factory=list)
    previous: bool = False


@dataclass(frozen=True)
class FocusMessage:
    """The slice on screen."""

    slice: int


@dataclass(frozen=True)
class JobOptions:
    """Options of a training; those left out have defaults. `window`: HU that become black and white, of CT.

    It starts from the last model where that has the same labels, network, size and intensities, unless `from_scratch`.
    recipe: "quick" takes few steps; "best" is `finetune --preset best` in its full length, from scratch.
    """

    size: int | None = None
    steps: int | None = None
    backbone: str | None = None
    modality: Literal["ct", "mr"] | None = None
    window: tuple[float, float] | None = None
    from_scratch: bool = False
    recipe: Literal["quick", "best"] = "quick"


@dataclass(frozen=True)
class JobRequest:
    """A job to start; `case` for propagate and refine."""

    kind: JobKind
    case: str | None = None
    options: JobOptions = field(default_factory=JobOptions)


@dataclass(frozen=True)
class JobMessage:
    """A job; times are ISO 8601, `log` the last lines that it printed."""

    id: int
    kind: JobKind
    case: str | None
    state: JobState
    progress: float
    message: str
    hint: str
    log: list[str]
    started: str | None
    ended: str | None


@dataclass(frozen=True)
class TrainingMessage:
    """What a training would do now; `warm_steps` are the steps from the last model, None where `cold_reason` says why
    it cannot start from that."""

    ready: bool
    message: str
    size: int
    steps: int
    warm_steps: int | None
    cold_reason: str
    backbone: str
    modality: str
    targets: list[str]
    slices: int
    cases: int
    validation: int


@dataclass(frozen=True)
class NewLabel:
    """A label to add."""

    name: str
    color: str | None = None


@dataclass(frozen=True)
class LabelChange:
    """What to change of a label."""

    name: str | None = None
    color: str | None = None


@dataclass(frozen=True)
class LabelInUse:
    """A label that is not deleted without confirmation, since it is drawn."""

    message: str
    hint: str
    voxels: int
    slices: int


@dataclass(frozen=True)
class DiceMessage:
    """Dice with the reference: label name → value, None where neither mask shows it."""

    dice: dict[str, float | None]


@dataclass(frozen=True)
class ExportRequest:
    """The format of an export."""

    format: Literal["nifti", "nnunet", "dicom-seg"]


@dataclass(frozen=True)
class ExportMessage:
    """The folder of an export, and the number of masks in it."""

    folder: str
    files: int
