"""Options of `propagate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import numbers
from frugalseg.options.promptable import PromptableOptions


@dataclass(frozen=True, kw_only=True)
class PropagateOptions(PromptableOptions):
    """Carry one annotated slice, or several, through the whole volume."""

    annotations: Path
    """Masks with the same case ids as the images, in which one or a few slices are annotated, each completely."""
    slices: str = ""
    """The annotated slices, counted from 0 at the inferior end: 12, or 12,40. By default all that hold foreground."""
    range: str = ""
    """First and last slice to work on: 10,80. By default all."""
    engine: Literal["project", "sam2"] = "project"
    """project: any promptable model, slice to slice. sam2: the memory of SAM 2 or EdgeTAM, named by --model; it
    takes no --margin, --candidates, --cache or --min-overlap."""
    min_overlap: float = 0.5
    """project: where a slice's mask would outgrow the one expected from the slice before so far that the two overlap
    less than this (IoU), the expected one is taken."""
    review_below: float = 0.7
    """Slices with a lower confidence are listed for review."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers("slices", self.slices)
        if self.range and len(numbers("range", self.range)) != 2:
            raise OptionError(f"--range {self.range}: expected two slices", "give the first and the last, 10,80 say")
        for name in ("min_overlap", "review_below"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise OptionError(f"--{name.replace('_', '-')} {value:g} is not in 0…1", "give 0.5, say")
        if self.engine == "sam2":
            for name in ("margin", "candidates", "cache", "min_overlap"):
                # All of them have plain defaults, which dataclasses leave on the class.
                if (value := getattr(self, name)) != getattr(type(self), name):
                    flag = "--" + name.replace("_", "-")
                    raise OptionError(
                        f"{flag} {value}: --engine sam2 knows nothing of it",
                        f"leave {flag} out, or take --engine project",
                    )
