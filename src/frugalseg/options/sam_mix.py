"""Options of `sam-mix`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Precision, Resume, TrainingOptions, positive


@dataclass(frozen=True, kw_only=True)
class SamMixTrainOptions(TrainingOptions):
    """Train SAM-Mix: a classifier from image-level labels, whose maps prompt a SAM that learns from a few masks."""

    base: str = "litemedsam"
    """The promptable model: litemedsam, or a folder or file of SAM or MedSAM."""
    adapt: Literal["lora", "decoder"] = "lora"
    """lora: low-rank changes to the image encoder are learned too. decoder: the encoder stays as it is and is run once
    a slice, which makes steps many times faster."""
    rank: int = 8
    """lora: rank r of the changes to queries and values."""
    budget: str = "100%"
    """How many masks of the training patients may be used: "5 slices", "3 scans", "5%". Whether the organ is in a slice
    is learned from all training slices."""
    draw: int = 0
    """Which random draw of the budget; budgets of one draw are nested."""
    dense: Literal["mask", "added", "none"] = "mask"
    """How the classifier's map reaches the decoder beside the box: mask, as SAM's mask prompt; added, to the image's
    embedding; none, not at all. Mask and added come times a learned number that starts at 0."""
    threshold: float = 0.4
    """From where on the classifier's map, 0 to 1, counts as the organ, for the box."""
    classifier_size: int = 256
    """Side in pixels at which the classifier looks at slices; its map has a 32nd of it. Smaller is faster, and
    coarser."""
    batch_size: int = 8
    """Slices a step for the classifier."""
    masks_per_step: int = 4
    """Labelled slices a step, beside them: their masks teach the SAM branch and the classifier's map."""
    lr: float = 1e-4
    """Highest learning rate of what the base model brought, prompt encoder, decoder and LoRA: one cycle."""
    classifier_lr: float = 1e-3
    """Of what starts from nothing: the classifier, and its map's share in the prompts."""
    map_weight: float = 1.0
    """How much the masks of the budget also teach the classifier's map where the organ is; 0 for not at all, as
    published."""
    mask_loss: Literal["dice+ce", "dice"] = "dice+ce"
    """What the SAM branch learns of the masks by: dice+ce, Dice and cross-entropy, as MedSAM was trained; dice, Dice
    alone, as the authors' later code has it."""
    focal_gamma: float = 2.0
    """How much the classification loss looks away from easy slices; 0 for not."""
    focal_alpha: float | None = None
    """Weight of slices that show the organ, the others having 1 − this; by default 0.5 for organs in a quarter to three
    quarters of the slices, else 0.25."""
    augment: bool = True
    """Change the slices that the classifier learns from a little at random."""
    self_training: bool = False
    """Also learn from masks that the model is sure of, in slices without one."""
    validate_every: int | None = None
    """Steps between validations; by default ten validations a run, at ends of epochs where several fit between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rank", "batch_size", "masks_per_step", "lr", "classifier_lr", "validate_every")
        if self.context:
            raise OptionError(f"--context {self.context}: SAM-Mix sees single slices", "leave it out")
        if self.draw < 0:
            raise OptionError(f"--draw {self.draw} is below 0", "give 0, 1, 2, …")
        if not 0 < self.threshold <= 1:
            raise OptionError(f"--threshold {self.threshold:g} is not in 0…1", "give 0.4, say")
        if self.classifier_size < 32 or self.classifier_size % 32:
            raise OptionError(
                f"--classifier-size {self.classifier_size} is no multiple of 32", "give 128, 256 or 512, say"
            )
        if self.batch_size < 2:
            raise OptionError("--batch-size 1: the classifier's batch norms need several slices", "give 8, say")
        if not self.map_weight >= 0:
            raise OptionError(f"--map-weight {self.map_weight:g} is below 0", "give 1, or 0 for none")
        if self.focal_gamma < 0 or not (self.focal_alpha is None or 0 < self.focal_alpha < 1):
            raise OptionError(
                f"--focal-gamma {self.focal_gamma:g} --focal-alpha {self.focal_alpha}: expected 0 or more, and a share",
                "give 2 and 0.25, say",
            )


@dataclass(frozen=True, kw_only=True)
class SamMixPredictOptions:
    """Segment whole scans with a trained SAM-Mix; the classifier alone prompts it."""

    model: Path
    """A run of `frugalseg sam-mix train`."""
    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in its scan's own grid and file type."""
    modality: Modality = "auto"
    """What the scans are, as for `frugalseg predict`."""
    base: str | None = None
    """Where the base model is now, if not where it was in training."""
    keep: Literal["model", "all", "largest", "core"] = "model"
    """What to keep of each organ's mask, as for `frugalseg predict`."""
    oracle: Path | None = None
    """Folder of reference masks, in the label values of --target, whose boxes prompt the model instead of the
    classifier: tells what better boxes would bring, is no result of the method, and is recorded as "oracle"."""
    batch_size: int | None = None
    """Slices looked at at once; by default 4 on a CPU and 16 on a GPU."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    threads: int | None = None
    """CPU threads; by default OMP_NUM_THREADS, or one a physical core that may be used. The same number gives the same
    figures."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    target: list[str] = field(default_factory=list)
    """Label values to write, instead of the training's: name=value. Organs not named are then not written."""
    overwrite: bool = False
    """Write into a folder that already holds predictions."""
    resume: Resume = "no"
    """--resume goes on with an interrupted prediction; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        positive(self, "batch_size")


@dataclass(frozen=True, kw_only=True)
class SamMixEvaluateOptions:
    """Tell how well a SAM-Mix classifier found the slices and scans that show an organ."""

    predictions: Path
    """Folder that `frugalseg sam-mix predict` wrote."""
    references: Path
    """Folder of reference masks with the same case ids."""
    out: Path
    """The JSON file to write."""
    overwrite: bool = False
    """Replace the file if it is there."""
