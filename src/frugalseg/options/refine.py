"""Options of `refine`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Pieces, check_positive
from frugalseg.options.promptable import PromptableOptions


@dataclass(frozen=True, kw_only=True)
class RefineOptions(PromptableOptions):
    """Refine masks of whole scans: re-segment each part of a mask by prompting SAM with its bounding box."""

    masks: Path
    """Folder of masks with the same case ids as the images, from `frugalseg predict` or any other source."""
    boxes: Pieces = "component"
    """What each box prompt encloses. slice: all of an organ in a slice. component: each connected component of a slice.
    component-3d: the cross-section of each 3D connected component in a slice."""
    min_iou: float = 0.5
    """Keep the input mask where the overlap (IoU) of the new one with it is below this."""
    min_area_mm2: float = 30.0
    """Components smaller than this area, in mm², are left unchanged."""
    smooth_slices: bool = False
    """Average the model's masks over neighbouring slices, weighted by distance in mm, before thresholding."""
    oracle: Path | None = None
    """Folder of reference masks to take the box prompts from, instead of the input masks: an upper bound for better
    boxes, not a result of the method, and recorded as "oracle"."""
    batch_size: int | None = None
    """Slices encoded per batch; by default 4 on a CPU and 16 on a GPU, halved if memory is too small."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")
        if not 0 <= self.min_iou <= 1:
            raise OptionError(f"--min-iou {self.min_iou:g} is not in 0…1", "give for example 0.5")
        if not self.min_area_mm2 >= 0:  # nor NaN
            raise OptionError(f"--min-area-mm2 {self.min_area_mm2:g} is not an area", "give a number of mm², 0 or more")
