"""Options of `pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Norm, TrainingOptions, positive
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
    """Train an encoder on unlabelled slices by contrast."""

    method: MethodName = "polycl-m"
    """What is learned; docs/reference/methods.md tells each. polycl-o, -s, -m: pairs by organ, by scan, or by both, in
    triplets (-batch: against the whole batch); simclr, supcon, pcl, gcl, moco, byol: two views of every slice;
    supercl: four views, superpixels too; classify: predict the organs present; random-pairs: the control."""
    backbone: str = "unet"
    """The network whose encoder is trained."""
    weights: Path | None = None
    """Published weights to start from, a local file that fits the backbone."""
    norm: Norm | None = None
    """Normalisation layers; by default the backbone's own, or instance_affine where it has none. The paper's U-Net has
    instance (no learned scale)."""
    batch_size: int = 20
    """Samples a step: triplets for polycl-o, -s, -m and random-pairs, slices for all others."""
    lr: float | None = None
    """Highest learning rate, instead of the method's."""
    recipe: MethodName | None = None
    """Take optimiser, learning rate, weight decay, schedule and head of another method, to compare methods trained
    alike. moco, byol and classify keep their own head. What is compared, τ and the random changes stay the method's."""
    restart: int = 10
    """Epochs between warm restarts, for the methods that have them (polycl and random-pairs) and their --recipe."""
    tau: float | None = None
    """Temperature of the contrastive loss, instead of the method's."""
    neg_scope: Literal["same", "other", "any"] = "same"
    """polycl-m: where a negative comes from: the anchor's own scan (the paper's formula), another one, or any."""
    min_dz: float = 0.0
    """polycl: least distance in mm between an anchor and a positive of the same scan; thin slices are near
    duplicates."""
    augment: Literal["none", "light", "strong", "published"] | None = None
    """Random changes to every slice, instead of the method's: none, light (small ones of intensity, position and
    angle), strong (crops too; what two-view methods take), or published (supercl: as its code has them)."""
    slices_per_scan: int = 4
    """polycl-o-batch, -s-batch, -m-batch: least number of slices that a batch holds of each of its scans."""
    position_threshold: float = 0.1
    """pcl, supercl: slices are positives when their positions in their scans (0 to 1) are closer than this."""
    queue: int = 4096
    """moco: number of keys remembered from earlier steps."""
    momentum: float | None = None
    """moco, byol: how much of itself the slow copy of the network keeps a step; by default 0.999, and for byol 0.99
    rising to 1."""
    superpixels: Literal["store", "online"] = "store"
    """supercl: store reads the superpixels of `prepare --superpixels`; online computes them of every view in every
    step, as its code does, which is slow."""
    segments: int | None = None
    """supercl, online: about how many superpixels a slice has; by default 25 at 256 pixels."""
    compactness: float = 10.0
    """supercl, online: weight of nearness against likeness, in units of lightness (0 to 100)."""
    intra_slices: float = 1.0
    """supercl: share of a batch's slices whose pixels are compared in a step, at least one slice. 1: all, as published.
    With less they are drawn anew every step; 0.15 saves a quarter of the time, and cost Dice where it was measured."""
    pixel_map: Literal["coarsest", "quarter"] = "coarsest"
    """supercl: whose pixels are compared: of the encoder's coarsest map as they are, as published, or of that with a
    quarter of the slice's side, projected to 128 numbers; for slices below 256 pixels, or small superpixels."""
    pixels: int = 256
    """supercl: most pixels of a map that are compared in a step."""
    pixel_sample: Literal["random", "stride"] = "random"
    """supercl: which they are: drawn anew every step, or every 16th, as published, which leaves columns out."""
    asp_norm: Literal["cluster", "global"] = "cluster"
    """supercl: a superpixel's sum is divided by its own size, or by the map's, as published."""
    intra: float = 1.0
    """supercl: weight of the pixels' term."""
    inter: float = 0.5
    """supercl: weight of the term of slices with alike superpixel maps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch_size", "lr", "tau", "restart", "slices_per_scan", "position_threshold", "queue")
        positive(self, "compactness", "pixels", "intra_slices")
        if self.intra_slices > 1:
            raise OptionError(f"--intra-slices {self.intra_slices:g} is a share above 1", "give 1 for all, or 0.15")
        check_segments(self.segments)
        if self.superpixels == "store" and (self.segments is not None or self.compactness != 10.0):
            raise OptionError(
                "--segments and --compactness shape superpixels that are computed online; a store brings its own",
                "give them to `frugalseg prepare superpixels`, or add --superpixels online",
            )
        if min(self.intra, self.inter) < 0:
            raise OptionError(
                f"--intra {self.intra:g} --inter {self.inter:g}: a weight is below 0", "give 0 to leave a term out"
            )
        if self.min_dz < 0:
            raise OptionError(f"--min-dz {self.min_dz:g} is below 0", "give a distance in mm")
        if self.slices_per_scan < 2:
            raise OptionError(
                f"--slices-per-scan {self.slices_per_scan}: one slice of a scan has no positive there", "give 4, say"
            )
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            raise OptionError(f"--momentum {self.momentum:g} is not in 0…1", "give for example 0.99")
