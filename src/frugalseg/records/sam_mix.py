"""model.json of a SAM-Mix (`sam-mix train`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from frugalseg.records.model import AnnotationUse, MaskModelRecord


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
        map_stride: see `options.sam_mix`; 32 in older files, which do not have it.
    """

    adapt: Literal["lora", "decoder"]
    rank: int
    dense: Literal["mask", "added", "none"]
    threshold: float
    classifier_size: int
    organs: int
    size: int
    map_stride: int = 32


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
        interpolation: factor that was kept, between base weights (0) and fine-tuned weights (1).
        map_factor: learned factor of the class activation map in the decoder; None without the map.
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
    interpolation: float
    map_factor: float | None
    scan_boxes: dict[str, bool] = field(default_factory=dict)
    focal: FocalLoss
    annotation: SamMixAnnotation
