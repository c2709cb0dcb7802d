"""model.json of a network of `models/`: an encoder (`pretrain`) or a segmenter (`finetune`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from frugalseg.options import Choose, Norm
from frugalseg.plugins import PluginOrigin
from frugalseg.records.confidence import ConfidenceSource, OrganCalibration
from frugalseg.records.model import AnnotationUse, MaskModelRecord, ModelRecord, PromptableModel, UsedModel

MOST_CONTEXT = 1000
"""No network has more neighbouring slices as input; a larger number means that the file is damaged."""


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
