"""Options of `finetune` and `predict`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Norm, Precision, Resume, Semi, TrainingOptions, positive


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Train a segmentation model from a few labels."""

    encoder: Path | None = None
    """A pre-training run whose encoder to start from; without it, training starts from scratch."""
    backbone: str = "unet"
    """The network, where no --encoder names one."""
    weights: Path | None = None
    """A file with published weights for the backbone's encoder, ImageNet's for example (see the backbones' page)."""
    preset: Literal["robust", "paper", "supercl", "best"] = "robust"
    """robust: what works with few labels. paper, supercl: as PolyCL and SuperCL were published, masks not cleaned
    either. best: robust, and self-training on the unlabelled scans; it takes twice as long."""
    norm: Norm | None = None
    """Normalisation layers, instead of the preset's; an encoder needs those it was pre-trained with."""
    semi: Semi | None = None
    """How the training patients' unlabelled slices are used, instead of the preset's way. self-training: a first model
    labels them for the next. mean-teacher: the model must agree with its own moving average on them."""
    rounds: int | None = None
    """Rounds of self-training, each as long as the first training."""
    refine: str | None = None
    """In self-training, also refine what the first model labels, with this promptable model (see `frugalseg refine`):
    litemedsam, another name of `frugalseg weights list`, a folder or a file. Predicting does not need it."""
    transductive: bool = False
    """Allow an encoder that saw validation or test scans; the model's record then says so."""
    budget: str = "100%"
    """How many labels of the training patients may be used: "5%", "3 scans", "50 slices"."""
    draw: int = 0
    """Which random draw of the budget; budgets of one draw are nested."""
    batch_size: int = 10
    """Slices a step."""
    lr: float | None = None
    """Learning rate, instead of the preset's."""
    validate_every: int | None = None
    """Steps between validations; by default about twenty validations a run, at ends of epochs
    where several fit between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch_size", "lr", "validate_every", "rounds")
        if self.encoder is not None and self.weights is not None:
            raise OptionError("--encoder and --weights were both given", "give one of them")
        if self.draw < 0:
            raise OptionError(f"--draw {self.draw} is below 0", "give 0, 1, 2, …")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Segment whole scans with a trained model."""

    model: Path
    """A fine-tuning run, or one of `frugalseg sam-mix train`."""
    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in its scan's own grid and file type."""
    modality: Modality = "auto"
    """What the scans are. auto refuses those that are CT where the model learned from MR, or the other way round. The
    model's own, ct or mr, takes every scan for that."""
    flips: bool = False
    """Average over left-right and up-down flips: slower, sometimes better. Not for SAM-Mix."""
    keep: Literal["model", "all", "largest", "core"] = "model"
    """What to keep of each organ's mask: what did best on the validation patients, all of it, its largest component, or
    the core of that, without what hangs on it by a thin bridge."""
    batch_size: int | None = None
    """Slices segmented at once; by default 4 on a CPU, where more only take memory, and 32 on a GPU
    (SAM-Mix: 16)."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    threads: int | None = None
    """CPU threads; by default OMP_NUM_THREADS, or one a physical core that may be used. The same number gives the same
    figures."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    refine: str | None = None
    """Also refine the masks by box prompts, with this promptable model (see `frugalseg refine`): litemedsam, another
    name of `frugalseg weights list`, a folder or a file. The masks as predicted are kept in <out>/coarse."""
    target: list[str] = field(default_factory=list)
    """Label values to write, instead of the training's: name=value. Organs not named are then not written."""
    overwrite: bool = False
    """Write into a folder that already holds predictions."""
    resume: Resume = "no"
    """--resume goes on with an interrupted prediction; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        positive(self, "batch_size")
