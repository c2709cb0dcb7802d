"""Options of `sam-mix`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Precision, Resume, TrainingOptions, check_positive
from frugalseg.options.outputs import MaskOutputOptions
from frugalseg.options.series import SeriesOptions


@dataclass(frozen=True, kw_only=True)
class SamMixTrainOptions(TrainingOptions):
    """Train SAM-Mix: a classifier learned from image-level labels prompts a SAM fine-tuned on few masks."""

    base: str = "litemedsam"
    """Promptable base model: litemedsam, or a folder or file of SAM or MedSAM."""
    adapt: Literal["lora", "decoder"] = "lora"
    """lora: also adapt the image encoder by low-rank updates. decoder: keep the encoder frozen and run it once per
    slice, which makes steps many times faster."""
    lora_rank: int = 8
    """With --adapt lora: rank of the updates to query and value projections."""
    budget: str = "100%"
    """Label budget: how many masks of the training patients to use: "5 slices", "3 scans" or "5%". Image-level labels
    of all training slices are used in addition."""
    label_draw: int = 0
    """Number of the random draw that selects the labels; within a draw, larger budgets contain smaller ones."""
    dense_prompt: Literal["mask", "added", "none"] = "mask"
    """How the classifier's activation map reaches the decoder, beside the box prompt. mask: as SAM's mask prompt.
    added: added to the image embedding. none: not at all. mask and added are scaled by a learned factor that starts at
    0."""
    map_threshold: float = 0.4
    """Threshold on the classifier's activation map (0 to 1) that defines the box prompt."""
    classifier_size: int = 256
    """Width in pixels of the classifier's input. Smaller is faster, and makes its activation map coarser."""
    map_stride: int = 16
    """Pixels of the classifier's input for each cell of its activation map. 16: fine enough for boxes around the organ.
    32: as in the paper's figure, faster and coarser."""
    batch_size: int = 8
    """Slices per step for the classifier."""
    masks_per_step: int = 4
    """Slices with masks per step, in addition: their masks train the SAM branch and the classifier's map."""
    lr: float = 1e-4
    """Peak learning rate of prompt encoder, mask decoder and LoRA (one-cycle schedule)."""
    classifier_lr: float = 1e-3
    """Peak learning rate of the parts with random initial weights: the classifier, and the factor of its map."""
    map_weight: float = 1.0
    """Weight of the loss that trains the classifier's map on the masks of the budget; 0 for none, as published."""
    mask_loss: Literal["dice+ce", "dice"] = "dice+ce"
    """Loss of the SAM branch. dice+ce: Dice and cross-entropy, as MedSAM was trained; dice: Dice only, as in the
    authors' later code."""
    focal_gamma: float = 2.0
    """Focal-loss exponent that down-weights easy slices in the classification loss; 0 for none."""
    focal_alpha: float | None = None
    """Weight of slices that show the organ, with 1 − this for the others; by default 0.5 for organs in a quarter to
    three quarters of the slices, otherwise 0.25."""
    augment: bool = True
    """Augment the slices that the classifier is trained on."""
    self_training: bool = False
    """Also train on confident pseudo-labels of slices without a mask."""
    validate_every: int | None = None
    """Steps between validations; by default ten validations per run, aligned with epochs where these are short."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "lora_rank", "batch_size", "masks_per_step", "lr", "classifier_lr", "validate_every")
        if self.context:
            raise OptionError(f"--context {self.context}: SAM-Mix segments single slices", "leave it out")
        if self.label_draw < 0:
            raise OptionError(f"--label-draw {self.label_draw} is below 0", "give 0, 1, 2, …")
        if not 0 < self.map_threshold <= 1:
            raise OptionError(f"--map-threshold {self.map_threshold:g} is not in 0…1", "give for example 0.4")
        if self.classifier_size < 32 or self.classifier_size % 32:
            raise OptionError(
                f"--classifier-size {self.classifier_size} is not a multiple of 32", "give for example 128, 256 or 512"
            )
        if self.map_stride not in (16, 32):
            raise OptionError(f"--map-stride {self.map_stride} is neither 16 nor 32", "give one of these")
        if self.batch_size < 2:
            raise OptionError("--batch-size 1: the classifier's batch norms need several slices", "give for example 8")
        if not self.map_weight >= 0:
            raise OptionError(f"--map-weight {self.map_weight:g} is below 0", "give 1, or 0 for none")
        if self.focal_gamma < 0 or not (self.focal_alpha is None or 0 < self.focal_alpha < 1):
            raise OptionError(
                f"--focal-gamma {self.focal_gamma:g} --focal-alpha {self.focal_alpha}: expected ≥ 0, and one in 0…1",
                "give for example 2 and 0.25",
            )


@dataclass(frozen=True, kw_only=True)
class SamMixPredictOptions(MaskOutputOptions, SeriesOptions):
    """Segment whole scans with a trained SAM-Mix, prompted by its classifier only."""

    model: Path
    """Run of `frugalseg sam-mix train`."""
    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in the grid of its scan."""
    modality: Modality = "auto"
    """Modality of the scans, as for `frugalseg predict`."""
    base: str | None = None
    """Folder or file of the base model, if it was moved since the training."""
    keep: Literal["model", "all", "largest", "core"] = "model"
    """Post-processing of each organ's mask, as for `frugalseg predict`."""
    scan_boxes: Literal["model", "yes", "no"] = "model"
    """Segment each organ again, in boxes around the masks that a slice and its neighbours have in its largest component
    in 3D; model: the organs for which this was better on the validation patients."""
    oracle: Path | None = None
    """Folder of reference masks, in the label values of --target, to take the box prompts from instead of the
    classifier: an upper bound for better boxes, not a result of the method, and recorded as "oracle"."""
    batch_size: int | None = None
    """Slices per batch; by default 4 on a CPU and 16 on a GPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core. Results are
    reproducible with the same number."""
    ray: str | None = None
    """Process the scans as Ray tasks: local, auto (the cluster running here), or the address of a cluster. Its machines
    see scans and --model at the same paths; --out need not be shared, since this machine writes the results. --threads
    is per scan, by default all cores of the largest machine, or its share per GPU."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    target: list[str] = field(default_factory=list)
    """Label values to write, instead of those of the training: name=value. Organs not named are not written."""
    overwrite: bool = False
    """Write into a folder that already holds predictions."""
    resume: Resume = "no"
    """--resume continues an interrupted prediction; --resume auto continues it, or starts it if there is none."""

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        if self.oracle is not None and self.scan_boxes == "yes":
            raise OptionError("--scan-boxes yes was given with --oracle, whose boxes are kept", "give one of them")


@dataclass(frozen=True, kw_only=True)
class SamMixEvaluateOptions:
    """Measure how well a SAM-Mix classifier detected the slices and scans that show an organ."""

    predictions: Path
    """Folder that `frugalseg sam-mix predict` wrote."""
    references: Path
    """Folder of reference masks with the same case ids."""
    out: Path
    """The JSON file to write."""
    overwrite: bool = False
    """Replace the file if it exists."""
