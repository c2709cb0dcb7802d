"""Options of `refine`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Pieces, positive
from frugalseg.options.promptable import PromptableOptions


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
