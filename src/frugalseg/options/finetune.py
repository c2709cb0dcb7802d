"""Options of `finetune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Choose, Norm, Semi, TrainingOptions, check_positive


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Train a segmentation model from a few labels."""

    encoder: Path | None = None
    """Pre-training run whose encoder to start from; without it, training starts from scratch."""
    backbone: str = "unet"
    """Network architecture: unet, resunet, resnet18-unet, resnet34-unet, resnet50-unet, resnet50-caffe-unet, transunet,
    transunet-small, supercl-unet; with --encoder it is that of the encoder. Or an image encoder that stays as it is
    (frozen), on whose features a light decoder is trained: litemedsam, another name from `frugalseg weights list`, a
    folder or a file of SAM, SAM 2, DINOv2 or DINOv3, or a run of `frugalseg pretrain`. Or one of a plug-in."""
    copies: int | None = None
    """Augmented copies of each labelled slice whose features are computed and trained on too; only for a frozen
    encoder, by default none: changing the features instead is as good."""
    cache: Path | None = None
    """Folder for the features of a frozen encoder, and for the image embeddings of --propagate, 2 MB a slice with
    litemedsam, which later trainings reuse; by default <data>/features and <data>/embeddings. Delete it when done."""
    weights: Path | None = None
    """File with published weights for the backbone's encoder, for example from ImageNet
    (docs/reference/backbones.md)."""
    init: Path | None = None
    """Trained model whose weights to start from (warm start): a run of `frugalseg finetune` of the same backbone and
    organs, for example on fewer labels. Give fewer --steps then."""
    preset: Literal["robust", "paper", "supercl", "best"] = "robust"
    """robust: settings that work with few labels. paper, supercl: as published with PolyCL and with SuperCL, without
    post-processing of masks. best: robust, with self-training on the unlabelled scans; takes twice as long."""
    norm: Norm | None = None
    """Normalisation layers, instead of the preset's; with --encoder they must be those of the pre-training."""
    semi: Semi | None = None
    """Semi-supervised use of the training patients' unlabelled slices, instead of the preset's. self-training: a first
    model makes pseudo-labels for the next. mean-teacher: consistency with the model's exponential moving average."""
    rounds: int | None = None
    """Number of self-training rounds, each as long as the first training."""
    teacher: Path | None = None
    """Trained model that makes the pseudo-labels of self-training, instead of a first round: a run of `frugalseg
    finetune` of the same organs and any backbone, for example of a frozen encoder, to train a faster network."""
    refine: str | None = None
    """Promptable model that refines the pseudo-labels of self-training (as `frugalseg refine` does): litemedsam,
    another name from `frugalseg weights list`, a folder or a file. Prediction does not need it."""
    propagate: str | None = None
    """Promptable model that propagates each outlined slice of a budget of slices through its scan (as `frugalseg
    propagate` does): litemedsam, another name from `frugalseg weights list`, a folder or a file. Training uses the
    propagated slices, weighted by their confidence. Prediction does not need it."""
    engine: Literal["box", "sam2"] = "box"
    """How --propagate does so. box: from slice to slice by box prompts, with any promptable model. sam2: by the memory
    of SAM 2 or EdgeTAM."""
    folds: int | None = None
    """Cross-validation: divide the labelled patients outside the test set into so many folds, and train a model for
    each, validated on its fold and trained on the others, in <out>/fold-0, <out>/fold-1, …; `predict --model` averages
    them."""
    fold: int | None = None
    """Train the model of this fold only, 0, 1, …, in --out."""
    transductive: bool = False
    """Allow an encoder whose pre-training included validation or test scans; recorded in model.json."""
    budget: str = "100%"
    """Label budget: how many labels of the training patients to use: "5%", "3 scans" or "50 slices"."""
    choose: Choose = "random"
    """Which slices a budget of slices takes. random: random ones that show a target. random-all: random ones of all.
    middle: from the middle of the target outwards. interval: at even intervals of the target. suggest: those of
    `frugalseg suggest --rule alike`, or the nearest that show a target. All but suggest take the patients in turn."""
    label_draw: int = 0
    """Number of the random draw that selects the labels; within a draw, larger budgets contain smaller ones."""
    batch_size: int = 10
    """Slices per step."""
    lr: float | None = None
    """Learning rate, instead of the preset's."""
    validate_every: int | None = None
    """Steps between validations; by default about twenty validations per run, aligned with epochs where these are
    short."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size", "lr", "validate_every", "rounds")
        if self.encoder is not None and self.weights is not None:
            raise OptionError("--encoder and --weights were both given", "give one of them")
        if self.init is not None and (self.encoder or self.weights) is not None:
            raise OptionError("--init was given with --encoder or --weights", "give one of them")
        if self.copies is not None and self.copies < 0:
            raise OptionError(f"--copies {self.copies} is below 0", "give 0, 1, 2, …")
        if self.engine != "box" and self.propagate is None:
            raise OptionError(f"--engine {self.engine} applies to --propagate only", "give --propagate too")
        if self.folds is not None and self.folds < 2:
            raise OptionError(f"--folds {self.folds} is below 2", "give 2 or more, for example 5")
        if self.fold is not None and self.folds is None:
            raise OptionError(f"--fold {self.fold} was given without --folds", "give the number of folds too")
        if self.folds is not None and self.fold is not None and not 0 <= self.fold < self.folds:
            raise OptionError(f"--fold {self.fold} of {self.folds} folds", f"give 0…{self.folds - 1}")
        if self.label_draw < 0:
            raise OptionError(f"--label-draw {self.label_draw} is below 0", "give 0, 1, 2, …")
