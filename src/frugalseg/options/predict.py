"""Options of `predict`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.options.common import Modality, Precision, Resume, positive


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
