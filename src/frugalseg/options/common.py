"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from frugalseg.errors import OptionError

Modality = Literal["auto", "ct", "mr"]
Norm = Literal["instance", "instance_affine", "batch"]
Resume = Literal["no", "yes", "auto"]
Precision = Literal["auto", "32", "bf16", "16"]
Semi = Literal["none", "self-training", "mean-teacher"]
Keep = Literal["all", "largest", "core"]
Choose = Literal["random", "random-all", "interval", "middle", "suggest"]
BackboneName = Literal[
    "unet",
    "resunet",
    "resnet18-unet",
    "resnet34-unet",
    "resnet50-unet",
    "resnet50-caffe-unet",
    "transunet",
    "transunet-small",
    "supercl-unet",
]
Logger = Literal["tensorboard", "wandb", "mlflow"]
Pieces = Literal["slice", "component", "component-3d"]


WINDOW = (-160.0, 240.0)
"""Default window: HU scaled to 0 and 1, for the abdomen."""
PERCENTILES = (0.5, 99.5)
"""Default percentiles, scaled to 0 and 1."""


class IntensityOptions(Protocol):
    """Options of a command that scales intensities."""

    @property
    def modality(self) -> Modality:
        """Modality of the scans."""

    @property
    def window(self) -> tuple[float, float] | None:
        """CT: lower and upper HU."""

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """MR: lower and upper percentile of each scan."""


def stated_modality(options: IntensityOptions) -> Modality:
    """The modality that the user stated: by --modality, or by giving a window or percentiles; otherwise auto."""
    if options.modality != "auto":
        return options.modality
    if options.window is not None:
        return "ct"
    return "auto" if options.percentiles is None else "mr"


def check_intensity(options: IntensityOptions) -> None:
    """Raise `OptionError` where window or percentiles are invalid, or both are given without a modality."""
    for name, limits in (("window", options.window), ("percentiles", options.percentiles)):
        if limits is not None and not limits[0] < limits[1]:
            raise OptionError(f"--{name} {limits[0]:g} {limits[1]:g}: the first must be below the second", "swap them")
    if options.percentiles is not None and not (0 <= options.percentiles[0] and options.percentiles[1] <= 100):
        raise OptionError("--percentiles must lie in 0…100", "give for example 0.5 99.5")
    if options.modality == "auto" and options.window is not None and options.percentiles is not None:
        raise OptionError(
            "--window (for CT) and --percentiles (for MR) were both given", "give one, or add --modality ct or mr"
        )


def check_positive(options: object, *names: str) -> None:
    """Raise `OptionError` unless each named option and --threads is unset or above 0, and --seed and --workers are at
    least 0."""
    for name in ("seed", "workers"):
        if (getattr(options, name, None) or 0) < 0:
            raise OptionError(f"--{name} {getattr(options, name)} is below 0", "give 0 or more")
    for name in (*names, "threads"):
        value = getattr(options, name, None)
        if value is not None and not value > 0:  # NaN is not above 0 either
            raise OptionError(f"--{name.replace('_', '-')} {value}: expected a number above 0", "give a larger number")


def parse_slice_numbers(name: str, text: str) -> list[int]:
    """Slice numbers of a comma-separated list, sorted, without duplicates; raises `OptionError` for anything else."""
    words = [word.strip() for word in text.split(",")] if text else []
    if wrong := [word for word in words if not word.isdecimal()]:
        raise OptionError(f"--{name} {text}: {wrong[0]!r} is not a slice number", "give for example 12, or 12,40")
    return sorted({int(word) for word in words})


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options that every training command shares."""

    data: Path
    """A slice store made by `frugalseg prepare`."""
    out: Path
    """The run folder to write."""
    split: Path | None = None
    """JSON file with the patients for training, validation and test, instead of the store's own split."""
    epochs: int | None = None
    """Number of passes over the training slices."""
    steps: int | None = None
    """Number of optimiser steps, instead of --epochs."""
    middle_fraction: float = 1.0
    """Fraction of each scan's slices, around its middle, to train on; the PolyCL paper used 0.3."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core. Results are
    reproducible with the same number."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""
    context: int | None = None
    """Number of neighbouring slices on each side that the network also sees (2.5D); by default that of the encoder or
    of the preset, otherwise none."""
    seed: int = 0
    """Random seed of initial weights, order of slices, pairs and augmentation. On a CPU, the same seed gives the same
    result, bit for bit."""
    resume: Resume = "no"
    """--resume continues an interrupted run exactly; --resume auto continues it, or starts it if there is none."""
    checkpoint_minutes: float = 5.0
    """Longest time between two checkpoints, in minutes."""
    log_to: list[Logger] = field(default_factory=list)
    """Send the metrics to Weights & Biases or MLflow too, as their own settings say (docs/how-to/log-metrics.md).
    TensorBoard's files are written whenever it is installed."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "steps", "middle_fraction", "checkpoint_minutes")
        if self.epochs is not None and self.steps is not None:
            raise OptionError(f"--epochs {self.epochs} and --steps {self.steps} were both given", "give one of them")
        if self.context is not None and self.context < 0:
            raise OptionError(f"--context {self.context} is below 0", "give 0, 1, 2, …")
        if self.middle_fraction > 1:
            raise OptionError(
                f"--middle-fraction {self.middle_fraction:g} is above 1", "give a fraction, for example 0.3"
            )
