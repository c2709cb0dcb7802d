"""Options that the commands share which prompt a model on whole scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Precision, Resume, check_intensity, positive


@dataclass(frozen=True, kw_only=True)
class PromptableOptions:
    """What the commands share that prompt a model on whole scans."""

    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in its scan's own grid and file type."""
    model: str = "litemedsam"
    """The promptable model: litemedsam, another name of `frugalseg weights list`, a folder or a file."""
    modality: Modality = "auto"
    """How intensities become grey values: ct by a window in HU, mr by percentiles of each scan. auto: what --window or
    --percentiles imply, or DICOM's Modality, or nnU-Net's dataset.json, or whether the values look like HU."""
    window: tuple[float, float] | None = None
    """CT only: lower and upper HU, shown as black and white; by default −160 240."""
    percentiles: tuple[float, float] | None = None
    """MR only: percentiles of the scan shown as black and white; by default 0.5 99.5."""
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
    threads: int | None = None
    """CPU threads; by default OMP_NUM_THREADS, or one a physical core that may be used. The same number gives the same
    figures."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    overwrite: bool = False
    """Write into a folder that already holds masks."""
    resume: Resume = "no"
    """--resume goes on with an interrupted run; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        positive(self)
        check_intensity(self)
        if not 0 <= self.margin < float("inf"):  # nor NaN
            raise OptionError(f"--margin {self.margin:g} is no distance from 0 on", "give one in mm")
