"""Options of `demo`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Resume, positive


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
    modality: Modality = "auto"
    """ct, mr, or auto: what your scans say or look like."""
    size: int = 128
    """Side of the square slices, in pixels."""
    budget: str | None = None
    """How many labels may be used, of the scans that are not kept for validation and for test; by default 3 scans, or
    as many as are left of fewer."""
    pretrain_epochs: int = 2
    """Passes of contrastive pre-training."""
    steps: int = 300
    """Steps of fine-tuning."""
    cases: int = 14
    """Number of phantoms."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    threads: int | None = None
    """CPU threads; by default OMP_NUM_THREADS, or one a physical core that may be used. The same number gives the same
    figures."""
    seed: int = 0
    """Seed of everything that is drawn."""
    overwrite: bool = False
    """Delete what an earlier demo left in the folder."""
    resume: Resume = "no"
    """--resume goes on with an interrupted demo; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        positive(self, "size", "pretrain_epochs", "steps", "cases")
        if self.overwrite and self.resume != "no":
            raise OptionError(
                f"--overwrite deletes an earlier demo, and --resume {self.resume} goes on with it", "give one of them"
            )
        if (self.images is None) != (self.labels is None) or (self.images is None) != (not self.target):
            raise OptionError(
                "your own scans need --images, --labels and --target together",
                "give all three, or none of them for the phantoms",
            )
