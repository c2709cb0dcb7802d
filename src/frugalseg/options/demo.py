"""Options of `demo`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Resume, check_positive


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Run the whole workflow, from scans to a report, on simulated scans or on your own."""

    out: Path = Path("frugalseg-demo")
    """Folder for everything the demo writes."""
    images: Path | None = None
    """Folder of your scans; without it, phantoms of the abdomen are simulated."""
    labels: Path | None = None
    """Folder of masks of your scans."""
    target: list[str] = field(default_factory=list)
    """What to segment in your scans, as name=value in the masks, for example liver=6."""
    modality: Modality = "auto"
    """Modality of your scans; auto: from the files' metadata, or from the range of values."""
    size: int = 128
    """Width and height of the square slices, in pixels."""
    budget: str | None = None
    """Label budget: how many of the labels not held out for validation and test to train on; by default 3 scans, or as
    many as there are."""
    pretrain_epochs: int = 2
    """Epochs of contrastive pre-training."""
    steps: int = 300
    """Optimiser steps of fine-tuning."""
    phantoms: int = 14
    """Number of phantoms to simulate."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core. Results are
    reproducible with the same number."""
    seed: int = 0
    """Random seed of phantoms, split, training and statistics."""
    overwrite: bool = False
    """Delete an earlier demo in the folder."""
    resume: Resume = "no"
    """--resume continues an interrupted demo; --resume auto continues it, or starts it if there is none."""

    def __post_init__(self) -> None:
        check_positive(self, "size", "pretrain_epochs", "steps", "phantoms")
        if self.overwrite and self.resume != "no":
            raise OptionError(
                f"--overwrite deletes an earlier demo, and --resume {self.resume} continues it", "give one of them"
            )
        if (self.images is None) != (self.labels is None) or (self.images is None) != (not self.target):
            raise OptionError(
                "your own scans need --images, --labels and --target together",
                "give all three, or none of them for the phantoms",
            )
