"""The middle slice of each mask, or of each reference, propagated through the scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import PropagateOptions
from frugalseg.studies.jobs.job import ModelJob
from frugalseg.studies.jobs.propagate_middle import PropagateMiddleSlice, propagate_middle_slices
from frugalseg.studies.mask_makers.follow_up import masks_of
from frugalseg.studies.mask_makers.promptable import PromptableFollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.options import OF_MASKS, CommandOptions


@dataclass(frozen=True)
class Propagate(PromptableFollowUp):
    """`frugalseg propagate`."""

    KEY = "propagate"
    OPTIONS = CommandOptions(PropagateOptions, (*OF_MASKS, "annotations", "slices"))
    TAKES_ORACLE = False

    def note(self, options: PropagateOptions) -> str:
        """See `FollowUp.note`."""
        through = f"propagated through the scan by {options.model} (engine {options.engine})"
        if self.of is None:
            return f"nothing is trained: of each test scan the reference's middle slice is given, and {through}"
        return f"of each mask of {self.of} the middle slice, {through}"

    def options(self, method: str, scans: ScansToSegment, model: ModelJob | None, out: Path) -> PropagateMiddleSlice:
        """See `MaskMaker.options`."""
        options = PropagateOptions(annotations=out.with_name("annotations"), **self.given(scans, out))
        return PropagateMiddleSlice(masks_of(model, scans), model is None, options)

    @staticmethod
    def make(options: PropagateMiddleSlice) -> None:
        """See `MaskMaker.make`."""
        propagate_middle_slices(options)
