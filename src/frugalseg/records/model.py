"""model.json: what a training learned, from what, and what a scan must go through before the model sees it.

Three kinds of model, each a record: an encoder (`pretrain`), a segmenter (`finetune`), a SAM-Mix (`sam-mix train`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.options import Keep, Norm
from frugalseg.records.record import Content, Record

M = TypeVar("M", bound="ModelRecord")

MOST_CONTEXT = 1000
"""No network sees more neighbours: a larger number is damage, and a network for it would not fit into memory."""


@dataclass(frozen=True)
class Preprocessing:
    """What a scan goes through before a model sees it, and what it should look like.

    Attributes:
        size: side of the square slices, in pixels.
        intensity: how intensities become [0, 1].
        looks_like: the kinds, ct or mr, that the values of the training scans look like; empty where the store was made
            before that was noted.
    """

    size: int
    intensity: IntensityScale
    looks_like: tuple[Literal["ct", "mr"], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}")


@dataclass(frozen=True)
class ScanRole:
    """What a model knows of one scan.

    Attributes:
        case: its id; "" for a scan that only the encoder saw.
        fingerprint: of its voxels.
        role: see `segmentation.record.scan_roles`.
    """

    case: str
    fingerprint: str
    role: str


@dataclass(frozen=True)
class WeightsKind:
    """What weights that others published are.

    Attributes:
        kind: in words.
        mean, std: of each colour, that were folded into the first convolution; None for other networks.
        positions: shape of the table of positions in the file; None for networks without one.
    """

    kind: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of others that an encoder started from.

    Attributes:
        file: its name.
        sha256: of the file.
        kind, mean, std, positions: see `WeightsKind`.
        parameters: how many were loaded.
    """

    file: str
    sha256: str
    kind: str
    parameters: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PromptableModel:
    """A promptable model: as it was asked for, its name, and the signature of its weights."""

    model: str
    name: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """What every model.json tells.

    Attributes:
        KIND: what `kind` says.
        MADE_BY: the command that makes such a run.
        kind: of model.
        version: of the program that trained it.
        parameters: number of the network's parameters.
        preprocessing: what scans go through.
    """

    FORMAT: ClassVar[int] = 1
    CURE: ClassVar[str] = "copy the run folder anew from where it is whole, or run the training again in another --out"
    OLDER: ClassVar[Mapping[int, Callable[[Content], Content]]] = {0: dict}  # as format 1, but that it says so
    KIND: ClassVar[str]
    MADE_BY: ClassVar[str]
    ALTERNATIVE: ClassVar[str] = ""

    kind: str
    version: str = ""
    parameters: int
    preprocessing: Preprocessing

    @classmethod
    def read_run(cls: type[M], folder: Path) -> M:
        """The record of a finished run of this kind.

        Raises:
            RunError: no such folder, no finished run, or one of another kind; or the file is damaged.
        """
        found = read_model_kind(folder, cls.MADE_BY)
        if found != cls.KIND:
            raise RunError(
                f"{folder} holds a model of kind {found!r}, needed is {cls.KIND!r}",
                f"give a run folder of `{cls.MADE_BY}`{cls.ALTERNATIVE}",
            )
        return cls.read(folder / MODEL_FILE)


@dataclass(frozen=True)
class EncoderAnnotation:
    """Human labels that a pre-training used.

    Attributes:
        masks: slices whose masks were used: none.
        organ_present_labels: slices of which it was told whether they show the organ.
        scans_seen: scans that these and all other slices come from.
    """

    masks: int
    organ_present_labels: int
    scans_seen: int = 0


@dataclass(frozen=True)
class ProbeRecord:
    """What the probe of a pre-training looked at; nothing was learned from it.

    Attributes:
        slices: how many were embedded.
        labelled_slices, labelled_scans: of which it saw the labels.
        organs: that it was scored on.
    """

    slices: int
    labelled_slices: int
    labelled_scans: int
    organs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkRecord(ModelRecord):
    """A network of `models/`.

    Attributes:
        backbone: see `models.registry`.
        norm: its normalisation layers.
        context: neighbouring slices on each side that it sees.
        published_weights: what it started from, or None.
    """

    backbone: str
    norm: Norm
    context: int
    published_weights: PublishedWeights | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.context <= MOST_CONTEXT:
            raise ValueError(f"context is {self.context}")


@dataclass(frozen=True, kw_only=True)
class EncoderRecord(NetworkRecord):
    """model.json of a pre-training.

    Attributes:
        method: of the pre-training.
        annotation: human labels used.
        probe: what the probe looked at, or None.
        fingerprints: of the scans that the encoder saw, sorted.
    """

    KIND: ClassVar[str] = "encoder"
    MADE_BY: ClassVar[str] = "frugalseg pretrain"

    kind: Literal["encoder"] = "encoder"
    method: str
    annotation: EncoderAnnotation
    probe: ProbeRecord | None = None
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnnotationUse:
    """Masks that a training used.

    Attributes:
        budget, draw: which labels were allowed, as the options say it.
        masks: slices whose masks were trained on.
        mask_scans: scans that these come from.
        validation_scans: scans whose masks chose the step, and what to keep of a mask.
        validation_masks: slices of these; None in a file made before that was noted.
    """

    budget: str
    draw: int
    masks: int
    mask_scans: int
    validation_scans: int
    validation_masks: int | None = None


@dataclass(frozen=True, kw_only=True)
class SegmenterAnnotation(AnnotationUse):
    """Annotation behind a fine-tuned model.

    Attributes:
        unlabelled_slices: that were used without their masks.
        unlabelled_scans: scans that these come from.
        pretraining: what its encoder used, or None.
    """

    unlabelled_slices: int = 0
    unlabelled_scans: int = 0
    pretraining: EncoderAnnotation | None = None

    @property
    def organ_present_labels(self) -> int:
        """Slices of which the pre-training was told whether they show the organ."""
        return self.pretraining.organ_present_labels if self.pretraining else 0

    @property
    def pretrain_scans(self) -> int:
        """Scans that the pre-training saw."""
        return self.pretraining.scans_seen if self.pretraining else 0


@dataclass(frozen=True, kw_only=True)
class SamMixAnnotation(AnnotationUse):
    """Annotation behind a SAM-Mix.

    Attributes:
        organ_present_labels: slices whose image-level labels taught the classifier.
        organ_present_scans: scans that these come from.
    """

    unlabelled_slices: ClassVar[int] = 0
    unlabelled_scans: ClassVar[int] = 0
    pretrain_scans: ClassVar[int] = 0

    organ_present_labels: int
    organ_present_scans: int


@dataclass(frozen=True, kw_only=True)
class MaskModelRecord(ModelRecord):
    """What a model that makes masks tells of them, whichever kind it is.

    Attributes:
        targets: organ → the label values it was trained on, in the order of the classes.
        keep: organ → what is kept of its mask (see `masks.components`).
        step: of the training that was chosen.
        validation_dice: of that step; None where no validation patient has labels.
        scans: what the model knows of each scan of its store.
    """

    targets: dict[str, tuple[int, ...]]
    keep: dict[str, Keep]
    step: int
    validation_dice: float | None
    scans: tuple[ScanRole, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets names no organ")
        if missing := [organ for organ in self.targets if organ not in self.keep]:
            raise ValueError(f"keep does not tell what to keep of the mask of {missing[0]}")


@dataclass(frozen=True, kw_only=True)
class SegmenterRecord(MaskModelRecord, NetworkRecord):
    """model.json of a fine-tuning.

    Attributes:
        annotation: masks and other labels used.
        pseudo_labels_refined_by: the promptable model that refined pseudo-labels, or None.
    """

    KIND: ClassVar[str] = "segmenter"
    MADE_BY: ClassVar[str] = "frugalseg finetune"

    kind: Literal["segmenter"] = "segmenter"
    annotation: SegmenterAnnotation
    pseudo_labels_refined_by: PromptableModel | None = None

    def __post_init__(self) -> None:
        MaskModelRecord.__post_init__(self)
        NetworkRecord.__post_init__(self)


@dataclass(frozen=True)
class BaseModel:
    """The promptable model that a SAM-Mix was trained on: where it was, its name, and the signature of its weights."""

    given: str
    name: str
    signature: str


@dataclass(frozen=True)
class SamMixSettings:
    """What is needed to build a SAM-Mix again; as the options of its training say it.

    Attributes:
        adapt, rank, dense, threshold, classifier_size: see `options.sam_mix`.
        organs: how many.
        size: side of the store's slices.
    """

    adapt: Literal["lora", "decoder"]
    rank: int
    dense: Literal["mask", "added", "none"]
    threshold: float
    classifier_size: int
    organs: int
    size: int


@dataclass(frozen=True)
class FocalLoss:
    """Of the classifier: organ → weight of slices that show it, and the exponent."""

    alpha: dict[str, float]
    gamma: float


@dataclass(frozen=True, kw_only=True)
class SamMixRecord(MaskModelRecord):
    """model.json of a SAM-Mix.

    Attributes:
        base: the promptable model it was trained on.
        settings: what is needed to build it again.
        trained: part of the model → number of its trained parameters.
        way_from_base: from the base's weights (0) to the learned ones (1), how far the kept weights lie.
        share_of_map: how much of the class activation map the decoder takes; None where it takes none.
        focal: the classifier's loss.
        annotation: masks and image-level labels used.
    """

    KIND: ClassVar[str] = "sam-mix"
    MADE_BY: ClassVar[str] = "frugalseg sam-mix train"
    ALTERNATIVE: ClassVar[str] = ", or use `frugalseg predict`"

    kind: Literal["sam-mix"] = "sam-mix"
    base: BaseModel
    settings: SamMixSettings
    trained: dict[str, int]
    way_from_base: float
    share_of_map: float | None
    focal: FocalLoss
    annotation: SamMixAnnotation


KINDS: dict[str, type[EncoderRecord | SegmenterRecord | SamMixRecord]] = {
    record.KIND: record for record in (EncoderRecord, SegmenterRecord, SamMixRecord)
}


@dataclass(frozen=True, kw_only=True)
class _Kind(Record):
    """What every model.json says; the rest depends on it."""

    FORMAT: ClassVar[int] = ModelRecord.FORMAT
    CURE: ClassVar[str] = ModelRecord.CURE
    OLDER: ClassVar[Mapping[int, Callable[[Content], Content]]] = ModelRecord.OLDER

    kind: str


def read_model_kind(folder: Path, made_by: str = "frugalseg finetune") -> str:
    """The kind of model that a finished run holds.

    Args:
        folder: the run.
        made_by: the command whose run is expected, for the message.

    Raises:
        RunError: no such folder, no finished run, or the file is damaged.
    """
    if not (folder / MODEL_FILE).is_file():
        started = (folder / "config.yaml").is_file()
        raise RunError(
            f"{folder} {'is a run that has not finished' if started else f'holds no trained model (no {MODEL_FILE})'}",
            "finish it with --resume" if started else f"give a run folder of `{made_by}`",
        )
    return _Kind.read(folder / MODEL_FILE).kind


def read_mask_model(folder: Path) -> SegmenterRecord | SamMixRecord:
    """The record of a finished run whose model makes masks; raises `RunError` as `ModelRecord.read_run`."""
    record = read_model(folder)
    return SegmenterRecord.read_run(folder) if isinstance(record, EncoderRecord) else record


def read_model(folder: Path) -> EncoderRecord | SegmenterRecord | SamMixRecord:
    """The record of a finished run, of whichever kind; raises `RunError` as `ModelRecord.read_run`."""
    kind = read_model_kind(folder)
    if kind not in KINDS:
        raise RunError(
            f"{folder / MODEL_FILE} is damaged: its kind is {kind!r}, expected {', '.join(KINDS)}", _Kind.CURE
        )
    return KINDS[kind].read(folder / MODEL_FILE)
