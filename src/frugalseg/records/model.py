"""model.json: a trained model, the data it was trained on, and the preprocessing it needs.

Three kinds of model, each a record: an encoder (`pretrain`), a segmenter (`finetune`), a SAM-Mix (`sam-mix train`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.options import Choose, Keep, Norm
from frugalseg.plugins import PluginOrigin
from frugalseg.records.confidence import ConfidenceSource, OrganCalibration
from frugalseg.records.record import Content, Record

M = TypeVar("M", bound="ModelRecord")

MOST_CONTEXT = 1000
"""No network has more neighbouring slices as input; a larger number means that the file is damaged."""


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a model's scans, and the kind of scan it was trained on.

    Attributes:
        size: side of the square slices, in pixels.
        intensity: how intensities become [0, 1].
        looks_like: the kinds, ct or mr, that the values of the training scans look like; empty where an older store
            did not record it.
    """

    size: int
    intensity: IntensityScale
    looks_like: tuple[Literal["ct", "mr"], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}")


@dataclass(frozen=True)
class ScanRole:
    """How a model used one scan.

    Attributes:
        case: its id; "" for a scan that only the encoder was trained on.
        fingerprint: hash of its voxel values.
        role: see `segmentation.record.scan_roles`.
    """

    case: str
    fingerprint: str
    role: str


@dataclass(frozen=True)
class WeightsKind:
    """A kind of published weights.

    Attributes:
        kind: description.
        mean, std: of each colour, folded into the first convolution; None for other networks.
        positions: shape of the position embedding in the file; None for networks without one.
    """

    kind: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights that training started from.

    Attributes:
        file: its name.
        sha256: of the file.
        kind, mean, std, positions: see `WeightsKind`.
        parameters: number of parameters loaded.
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
    """A promptable model: as given in the options, its name, and the signature of its weights."""

    model: str
    name: str
    signature: str


@dataclass(frozen=True)
class UsedModel:
    """A trained model that a training used.

    Attributes:
        model: its run folder.
        weights_sha256: of its weights.
        masks: number of slices whose masks it was trained on, and the models that it used itself; they may be those of
            the training that used it.
    """

    model: str
    weights_sha256: str
    masks: int


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """Fields of every model.json.

    Attributes:
        KIND: value of `kind`.
        MADE_BY: the command that makes such a run.
        ALTERNATIVE: what else to do with a model of another kind, for the message.
        kind: kind of model.
        version: version of frugalseg that trained it.
        parameters: number of the network's parameters.
        preprocessing: preprocessing of scans.
    """

    FORMAT: ClassVar[int] = 1
    CURE: ClassVar[str] = "copy the run folder again from an intact copy, or run the training again in another --out"
    OLDER: ClassVar[Mapping[int, Callable[[Content], Content]]] = {0: dict}  # the same, without the key "format"
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
            RunError: there is no such folder, the run is not finished or of another kind, or the file is damaged.
        """
        found = read_model_kind(folder, cls.MADE_BY)
        if found != cls.KIND:
            raise RunError(
                f"{folder} holds a model of kind {found!r}, expected {cls.KIND!r}",
                f"give a run folder of `{cls.MADE_BY}`{cls.ALTERNATIVE}",
            )
        return cls.read(folder / MODEL_FILE)


@dataclass(frozen=True)
class EncoderAnnotation:
    """Human labels that a pre-training used.

    Attributes:
        masks: slices whose masks were used: 0.
        organ_present_labels: slices whose image-level labels were used.
        scans_seen: scans that the encoder was trained on.
    """

    masks: int
    organ_present_labels: int
    scans_seen: int = 0


@dataclass(frozen=True)
class ProbeRecord:
    """Slices that the probe of a pre-training used; the encoder was not trained on its result.

    Attributes:
        slices: number of slices embedded.
        labelled_slices, labelled_scans: slices and scans whose labels it used.
        organs: organs that it was scored on.
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
        norm: normalisation layers.
        context: neighbouring slices on each side that are also its input.
        published_weights: weights that training started from, or None.
        plugin: the plug-in that the backbone is from, or None for one of frugalseg.
    """

    backbone: str
    norm: Norm
    context: int
    published_weights: PublishedWeights | None = None
    plugin: PluginOrigin | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.context <= MOST_CONTEXT:
            raise ValueError(f"context is {self.context}")


@dataclass(frozen=True, kw_only=True)
class EncoderRecord(NetworkRecord):
    """model.json of a pre-training.

    Attributes:
        method: pre-training method.
        annotation: human labels used.
        probe: slices that the probe used, or None.
        fingerprints: voxel fingerprints of the scans it was trained on, sorted.
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
        budget, draw: label budget and label draw, as in the options.
        masks: slices whose masks were trained on.
        mask_scans: their scans.
        validation_scans: scans whose masks chose the step and the post-processing.
        validation_masks: their slices; None in older files.
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
        choose: how a budget of slices was chosen (`finetune --choose`).
        unlabelled_slices: slices used without their masks.
        unlabelled_scans: their scans.
        propagated_slices: of these slices, those whose labels were propagated from an outlined slice of their scan.
        propagated_scans: their scans.
        pretraining: human labels that its encoder used, or None.
    """

    choose: Choose = "random"
    unlabelled_slices: int = 0
    unlabelled_scans: int = 0
    propagated_slices: int = 0
    propagated_scans: int = 0
    pretraining: EncoderAnnotation | None = None

    @property
    def organ_present_labels(self) -> int:
        """Slices whose image-level labels the pre-training used."""
        return self.pretraining.organ_present_labels if self.pretraining else 0

    @property
    def pretrain_scans(self) -> int:
        """Scans that the encoder was trained on."""
        return self.pretraining.scans_seen if self.pretraining else 0


@dataclass(frozen=True, kw_only=True)
class SamMixAnnotation(AnnotationUse):
    """Annotation behind a SAM-Mix.

    Attributes:
        organ_present_labels: slices whose image-level labels trained the classifier.
        organ_present_scans: their scans.
    """

    unlabelled_slices: ClassVar[int] = 0
    unlabelled_scans: ClassVar[int] = 0
    pretrain_scans: ClassVar[int] = 0

    organ_present_labels: int
    organ_present_scans: int


@dataclass(frozen=True, kw_only=True)
class MaskModelRecord(ModelRecord):
    """Fields of every model that makes masks.

    Attributes:
        targets: organ → label values of the training, in the order of the classes.
        keep: organ → post-processing of its mask (see `masks.components`).
        step: training step of the weights.
        validation_dice: Dice at that step; None where no validation patient has labels.
        validation_dice_of_organs: organ → its Dice at that step, before post-processing; without organs that no
            validation scan shows, and empty in older files.
        scans: role of each scan of the store.
    """

    targets: dict[str, tuple[int, ...]]
    keep: dict[str, Keep]
    step: int
    validation_dice: float | None
    validation_dice_of_organs: dict[str, float] = field(default_factory=dict)
    scans: tuple[ScanRole, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets names no organ")
        if missing := [organ for organ in self.targets if organ not in self.keep]:
            raise ValueError(f"keep names no post-processing for {missing[0]}")

    @property
    def unlearned_organs(self) -> tuple[str, ...]:
        """Organs that some validation scan shows, and the model finds in none: their validation Dice is 0."""
        return tuple(organ for organ, dice in self.validation_dice_of_organs.items() if dice == 0)


@dataclass(frozen=True, kw_only=True)
class SegmenterRecord(MaskModelRecord, NetworkRecord):
    """model.json of a fine-tuning.

    Attributes:
        annotation: masks and other labels used.
        pseudo_labels_refined_by: the promptable model that refined pseudo-labels, or None.
        outlines_propagated_by: the promptable model that propagated outlined slices through their scans, or None.
        calibration: what confidence is computed from → organ → its calibration on the validation patients; empty in
            older files, and without them.
        frozen_encoder: the frozen image encoder whose features the network takes beside the slices, not saved with
            it; None where it takes slices alone.
        initial_model: the trained model whose weights training started from, or None.
        teacher: the trained model that made the pseudo-labels, or None for those of its own rounds or for none.
    """

    KIND: ClassVar[str] = "segmenter"
    MADE_BY: ClassVar[str] = "frugalseg finetune"

    kind: Literal["segmenter"] = "segmenter"
    annotation: SegmenterAnnotation
    pseudo_labels_refined_by: PromptableModel | None = None
    outlines_propagated_by: PromptableModel | None = None
    calibration: dict[ConfidenceSource, dict[str, OrganCalibration]] = field(default_factory=dict)
    frozen_encoder: PromptableModel | None = None
    initial_model: UsedModel | None = None
    teacher: UsedModel | None = None

    def __post_init__(self) -> None:
        MaskModelRecord.__post_init__(self)
        NetworkRecord.__post_init__(self)


@dataclass(frozen=True)
class BaseModel:
    """Base model of a SAM-Mix: as given in the options, its name, and the signature of its weights."""

    given: str
    name: str
    signature: str


@dataclass(frozen=True)
class SamMixSettings:
    """Settings needed to rebuild a SAM-Mix, as in the options of its training.

    Attributes:
        adapt, rank, dense, threshold, classifier_size: see `options.sam_mix`.
        organs: number of organs.
        size: width of the store's slices, pixels.
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
    """Loss of the classifier: organ → weight of slices that show it, and the exponent."""

    alpha: dict[str, float]
    gamma: float


@dataclass(frozen=True, kw_only=True)
class SamMixRecord(MaskModelRecord):
    """model.json of a SAM-Mix.

    Attributes:
        base: promptable base model.
        settings: settings needed to rebuild it.
        trained: part of the model → number of trained parameters.
        way_from_base: interpolation between base weights (0) and fine-tuned weights (1) that was kept.
        share_of_map: learned factor of the class activation map in the decoder; None without the map.
        scan_boxes: organ → whether it is segmented with boxes from the scan's first masks; empty in older files: no.
        focal: loss of the classifier.
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
    scan_boxes: dict[str, bool] = field(default_factory=dict)
    focal: FocalLoss
    annotation: SamMixAnnotation


KINDS: dict[str, type[EncoderRecord | SegmenterRecord | SamMixRecord]] = {
    record.KIND: record for record in (EncoderRecord, SegmenterRecord, SamMixRecord)
}


@dataclass(frozen=True, kw_only=True)
class _Kind(Record):
    """The key that decides which record a model.json is."""

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
        RunError: there is no such folder, the run is not finished, or the file is damaged.
    """
    if not (folder / MODEL_FILE).is_file():
        if (folder / "config.yaml").is_file():
            raise RunError(
                f"{folder} is a run that has not finished (no {MODEL_FILE})",
                "finish it with --resume; if it is a copy, copy the folder again",
            )
        raise RunError(f"{folder} holds no trained model (no {MODEL_FILE})", f"give a run folder of `{made_by}`")
    return _Kind.read(folder / MODEL_FILE).kind


def read_mask_model(folder: Path) -> SegmenterRecord | SamMixRecord:
    """The record of a finished run whose model makes masks; raises `RunError` as `ModelRecord.read_run`."""
    record = read_model(folder)
    return SegmenterRecord.read_run(folder) if isinstance(record, EncoderRecord) else record


def read_model(folder: Path) -> EncoderRecord | SegmenterRecord | SamMixRecord:
    """The record of a finished run of any kind; raises `RunError` as `ModelRecord.read_run`."""
    kind = read_model_kind(folder)
    if kind not in KINDS:
        raise RunError(
            f"{folder / MODEL_FILE} is damaged: its kind is {kind!r}, expected {', '.join(KINDS)}", _Kind.CURE
        )
    return KINDS[kind].read(folder / MODEL_FILE)
