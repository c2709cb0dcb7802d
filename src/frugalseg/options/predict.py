"""Options of `predict`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Precision, Resume, check_positive
from frugalseg.options.outputs import MaskOutputOptions
from frugalseg.options.series import SeriesOptions

MOST_DEGREES = 45.0
"""Largest angle of test-time augmentation: at larger ones slices look like none of the training."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(MaskOutputOptions, SeriesOptions):
    """Segment whole scans with a trained model."""

    model: list[Path] | Path
    """Run of `frugalseg finetune` or of `frugalseg sam-mix train`. Several runs of `finetune` on the same organs, size
    and window: the masks are made from the mean of their probabilities. Models of different kinds (a U-Net, a light
    decoder) correct each other most. Post-processing is that of the first, and the confidence, which is lower where
    they disagree, only ranks."""
    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in the grid of its scan."""
    modality: Modality = "auto"
    """Modality of the scans. auto: refuse CT if the model was trained on MR, and vice versa. ct or mr (the model's
    own): accept every scan as that."""
    tta: bool = False
    """Test-time augmentation: average over left-right and up-down flips; slower, sometimes better. Not for SAM-Mix."""
    tta_degrees: float | None = None
    """Test-time augmentation: average also over rotations of the slices by this angle to the left and to the right, for
    example 8; with --tta of every flip. Not for SAM-Mix."""
    keep: Literal["model", "all", "largest", "core"] = "model"
    """Post-processing of each organ's mask. model: as chosen on the validation patients. all: none. largest: only the
    largest component. core: the largest component after removing thin connections (morphological opening)."""
    batch_size: int | None = None
    """Slices per batch; by default 4 on a CPU, where more only take memory, and 32 of 256×256 pixels on a GPU, more of
    smaller slices (SAM-Mix: 16)."""
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
    backbone: str | None = None
    """Where the weights of the model's frozen encoder are, if not where they were in training: a name from `frugalseg
    weights list`, a folder or a file. Only for models of `finetune --backbone` with such an encoder."""
    cache: Path | None = None
    """Folder for the features of the model's frozen encoder, also that of `finetune --cache`, 2 MB a slice with
    litemedsam: predicting the same scans with the next model is then many times faster. Delete it when done."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    refine: str | None = None
    """Promptable model that refines the masks (as `frugalseg refine` does): litemedsam, another name from `frugalseg
    weights list`, a folder or a file. The unrefined masks are kept in <out>/coarse."""
    target: list[str] = field(default_factory=list)
    """Label values to write, instead of those of the training: name=value. Organs not named are not written."""
    probabilities: bool = False
    """Also write the probability of each organ and a map of the uncertainty, 0…1, in the grid of the scan, in
    <out>/probabilities (NIfTI, 8 bit with a slope). It takes a byte of memory per voxel and organ."""
    overwrite: bool = False
    """Write into a folder that already holds predictions."""
    resume: Resume = "no"
    """--resume continues an interrupted prediction; --resume auto continues it, or starts it if there is none."""

    def __post_init__(self) -> None:
        check_positive(self, "batch_size", "tta_degrees")
        if not self.runs:
            raise OptionError("--model names no run", "give the folder of a trained model")
        if repeated := sorted({str(run) for run in self.runs if self.runs.count(run) > 1}):
            raise OptionError(f"--model names {repeated[0]} twice", "give each model once")
        if (self.tta_degrees or 0) > MOST_DEGREES:
            raise OptionError(
                f"--tta-degrees {self.tta_degrees:g} is above {MOST_DEGREES:g}", "give a small angle, for example 8"
            )

    @property
    def runs(self) -> list[Path]:
        """The models; of several the first states post-processing and preprocessing."""
        return [self.model] if isinstance(self.model, Path) else list(self.model)
