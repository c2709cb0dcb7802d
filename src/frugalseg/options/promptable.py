"""Options of the commands that apply a promptable model to whole scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Precision, Resume, check_intensity, check_positive
from frugalseg.options.outputs import MaskOutputOptions
from frugalseg.options.series import SeriesOptions


@dataclass(frozen=True, kw_only=True)
class PromptableOptions(MaskOutputOptions, SeriesOptions):
    """Options shared by the commands that apply a promptable model to whole scans."""

    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in the grid of its scan."""
    model: str = "litemedsam"
    """Promptable model: litemedsam, another name from `frugalseg weights list`, a folder or a file."""
    modality: Modality = "auto"
    """How intensities are scaled to grey values: ct, by a window in HU; mr, by percentiles of each scan. auto: as
    --window or --percentiles imply, otherwise by DICOM's Modality, nnU-Net's dataset.json, or whether the values look
    like HU."""
    window: tuple[float, float] | None = None
    """CT only: lower and upper HU, shown as black and white; by default −160 240."""
    percentiles: tuple[float, float] | None = None
    """MR only: percentiles of the scan shown as black and white; by default 0.5 99.5."""
    margin_mm: float = 3.0
    """Distance in mm between a mask and the box prompt around it."""
    candidates: Literal["one", "several"] = "one"
    """Masks that the model proposes per box: one, or several, of which the one with the highest score is used (for SAM
    as published; models fine-tuned on medical boxes were not trained to score several)."""
    cache: Path | None = None
    """Folder to keep the slices' image embeddings in, 2 MB each with litemedsam: later commands with the same scans,
    model and intensities are then many times faster. Delete it when done."""
    target: list[str] = field(default_factory=list)
    """Only these organs: name=value, or name=value,value to merge several label values. By default each label value is
    an organ."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core. Results are
    reproducible with the same number."""
    ray: str | None = None
    """Process the scans as Ray tasks: local, auto (the cluster running here), or the address of a cluster. Its machines
    see scans, masks and --model at the same paths; --out need not be shared, since this machine writes the results.
    --threads is per scan, by default all cores of the largest machine, or its share per GPU."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""
    overwrite: bool = False
    """Write into a folder that already holds masks."""
    resume: Resume = "no"
    """--resume continues an interrupted run; --resume auto continues it, or starts it if there is none."""

    def __post_init__(self) -> None:
        check_positive(self)
        check_intensity(self)
        if not 0 <= self.margin_mm < float("inf"):  # nor NaN
            raise OptionError(f"--margin-mm {self.margin_mm:g} is not a distance", "give a number of mm, 0 or more")
