"""Options of `pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import BackboneName, Norm, TrainingOptions, check_positive
from frugalseg.options.prepare import check_segments

MethodName = Literal[
    "polycl-o",
    "polycl-s",
    "polycl-m",
    "polycl-o-batch",
    "polycl-s-batch",
    "polycl-m-batch",
    "simclr",
    "supcon",
    "pcl",
    "gcl",
    "moco",
    "byol",
    "supercl",
    "classify",
    "random-pairs",
]


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TrainingOptions):
    """Pre-train an encoder on unlabelled slices by contrastive learning."""

    method: MethodName = "polycl-m"
    """Pre-training method (docs/reference/methods.md). polycl-o, -s, -m: positives by organ, by scan, or by both, in
    triplets (-batch: against the whole batch); simclr, supcon, pcl, gcl, moco, byol: two views of each slice;
    supercl: four views, with superpixels; classify: predict which organs are present; random-pairs: the control."""
    backbone: BackboneName = "unet"
    """Network architecture whose encoder is trained."""
    weights: Path | None = None
    """Published weights to start from: a local file that fits the backbone."""
    norm: Norm | None = None
    """Normalisation layers; by default the backbone's own, or instance_affine if it prescribes none. The U-Net of the
    PolyCL paper has instance (without learned scale)."""
    batch_size: int = 20
    """Samples per step: triplets for polycl-o, -s, -m and random-pairs, slices for all others."""
    lr: float | None = None
    """Peak learning rate, instead of the method's."""
    recipe: MethodName | None = None
    """Method whose optimiser, learning rate, weight decay, schedule and head to use, to compare methods under equal
    training. moco, byol and classify keep their own head. Pairs, temperature and augmentation stay the method's."""
    restart_epochs: int = 10
    """Epochs between warm restarts of the learning rate (`polycl-*`, random-pairs, and methods with their --recipe)."""
    temperature: float | None = None
    """Temperature of the contrastive loss, instead of the method's."""
    neg_scope: Literal["same", "other", "any"] = "same"
    """polycl-m: scan that negatives come from: the anchor's own (the paper's formula), another, or any."""
    min_distance_mm: float = 0.0
    """polycl: least distance in mm between an anchor and a positive of the same scan, since adjacent thin slices are
    near duplicates."""
    augment: Literal["none", "light", "strong", "published"] | None = None
    """Augmentation, instead of the method's. light: small changes of intensity, position and angle; strong: also crops,
    as two-view methods use; published: supercl, as in its authors' code."""
    slices_per_scan: int = 4
    """polycl-o-batch, -s-batch, -m-batch: least number of slices from each scan in a batch."""
    position_threshold: float = 0.1
    """pcl, supercl: slices are positives if their relative positions in their scans (0 to 1) differ by less than
    this."""
    queue_size: int = 4096
    """moco: number of keys kept from earlier steps."""
    momentum: float | None = None
    """moco, byol: decay of the momentum encoder (exponential moving average) per step; by default 0.999, and for byol
    0.99 rising to 1."""
    superpixels: Literal["store", "online"] = "store"
    """supercl: store, those computed by `prepare --superpixels`; online, computed from each view in each step, as in
    the authors' code, which is slow."""
    segments: int | None = None
    """supercl with --superpixels online: approximate number of superpixels per slice; by default 25 at 256 pixels."""
    compactness: float = 10.0
    """supercl with --superpixels online: weight of spatial against intensity distance, in units of lightness (0 to
    100)."""
    intra_slices: float = 1.0
    """supercl: fraction of the batch's slices whose pixels are compared in each step, at least one slice. 1: all, as
    published. Below 1 they are redrawn in each step; 0.15 saves a quarter of the time, and lowered Dice in our
    tests."""
    pixel_map: Literal["coarsest", "quarter"] = "coarsest"
    """supercl: feature map whose pixels are compared. coarsest: the encoder's coarsest, as published. quarter: the one
    at a quarter of the slice's width, projected to 128 dimensions; for slices below 256 pixels or small superpixels."""
    max_pixels: int = 256
    """supercl: greatest number of pixels of a feature map compared in a step."""
    pixel_sample: Literal["random", "stride"] = "random"
    """supercl: how these pixels are chosen. random: redrawn in each step. stride: every 16th, as published, which omits
    columns."""
    asp_norm: Literal["cluster", "global"] = "cluster"
    """supercl: divisor of a superpixel's summed features: its own size (cluster), or the size of the map (global, as
    published)."""
    intra_weight: float = 1.0
    """supercl: weight of the pixel term L_intra."""
    inter_weight: float = 0.5
    """supercl: weight of the term L_inter, of slices with similar superpixel maps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self,
            "batch_size",
            "lr",
            "temperature",
            "restart_epochs",
            "slices_per_scan",
            "position_threshold",
            "queue_size",
        )
        check_positive(self, "compactness", "max_pixels", "intra_slices")
        if self.intra_slices > 1:
            raise OptionError(f"--intra-slices {self.intra_slices:g} is above 1", "give a fraction: 1 for all, or 0.15")
        check_segments(self.segments)
        if self.superpixels == "store" and (self.segments is not None or self.compactness != 10.0):
            raise OptionError(
                "--segments and --compactness apply to superpixels that are computed online, not to those of a store",
                "give them to `frugalseg prepare superpixels`, or add --superpixels online",
            )
        if min(self.intra_weight, self.inter_weight) < 0:
            raise OptionError(
                f"--intra-weight {self.intra_weight:g} --inter-weight {self.inter_weight:g}: a weight is below 0",
                "give 0 to leave a term out",
            )
        if self.min_distance_mm < 0:
            raise OptionError(f"--min-distance-mm {self.min_distance_mm:g} is below 0", "give a distance in mm")
        if self.slices_per_scan < 2:
            raise OptionError(
                f"--slices-per-scan {self.slices_per_scan}: a single slice of a scan has no positive",
                "give for example 4",
            )
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            raise OptionError(f"--momentum {self.momentum:g} is not in 0…1", "give for example 0.99")
