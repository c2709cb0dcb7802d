"""Options of `propagate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import parse_slice_numbers
from frugalseg.options.promptable import PromptableOptions


@dataclass(frozen=True, kw_only=True)
class PropagateOptions(PromptableOptions):
    """Propagate one annotated slice, or several, through the whole volume."""

    annotations: Path
    """Folder of masks with the same case ids as the images, in which one or a few slices are annotated completely."""
    slices: str = ""
    """Annotated slices, counted from 0 at the inferior end: 12, or 12,40; by default all with foreground, or those that
    a person outlined or reviewed with `frugalseg annotate`."""
    slice_range: str = ""
    """First and last slice to segment: 10,80; by default all."""
    engine: Literal["box", "sam2"] = "box"
    """box: from slice to slice by box prompts, with any promptable model. sam2: by the memory of SAM 2 or EdgeTAM (name
    one by --model); it uses no --margin-mm, --candidates, --cache or --min-overlap."""
    min_overlap: float = 0.5
    """box: if the mask of a slice grows beyond the one expected from the previous slice, and their overlap (IoU) is
    below this, the expected mask is used."""
    review_below: float = 0.7
    """Slices with a confidence below this are listed for review."""
    calibration: Path | None = None
    """Folder of propagated masks with the calibration.json of `frugalseg calibrate --propagated`: masks then have an
    expected Dice and a lower bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_slice_numbers("slices", self.slices)
        if self.slice_range and len(parse_slice_numbers("slice-range", self.slice_range)) != 2:
            raise OptionError(
                f"--slice-range {self.slice_range}: expected two slices",
                "give the first and the last, for example 10,80",
            )
        for name in ("min_overlap", "review_below"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise OptionError(f"--{name.replace('_', '-')} {value:g} is not in 0…1", "give for example 0.5")
        if self.engine == "sam2":
            for name in ("margin_mm", "candidates", "cache", "min_overlap"):
                # All of them have plain defaults, which dataclasses leave on the class.
                if (value := getattr(self, name)) != getattr(type(self), name):
                    flag = "--" + name.replace("_", "-")
                    raise OptionError(
                        f"{flag} {value}: --engine sam2 does not use it",
                        f"leave {flag} out, or use --engine box",
                    )
