"""The middle slice of each mask, or of each reference, propagated through the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import PropagateOptions
from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.jobs.propagate_middle import PropagateMiddleSlice, propagate_middle_slices
from frugalseg.studies.mask_makers.follow_up import input_masks_folder
from frugalseg.studies.mask_makers.promptable import PromptableFollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.options import SET_FOR_MASKS, CommandOptions


@dataclass(frozen=True)
class Propagate(PromptableFollowUp):
    """`frugalseg propagate`."""

    KEY = "propagate"
    OPTIONS = CommandOptions(PropagateOptions, (*SET_FOR_MASKS, "annotations", "slices"))
    TAKES_ORACLE = False

    def describe_method(self, options: PropagateOptions) -> str:
        """See `FollowUp.describe_method`."""
        through = f"propagated through the scan by {options.model} (engine {options.engine})"
        if self.of is None:
            return f"nothing is trained: the middle slice of each test scan's reference, {through}"
        return f"the middle slice of each mask of {self.of}, {through}"

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> PropagateMiddleSlice:
        """See `MaskMaker.mask_options`."""
        options = PropagateOptions(annotations=out.with_name("annotations"), **self.command_options(scans, out))
        return PropagateMiddleSlice(input_masks_folder(sources, scans), not sources, options)

    @staticmethod
    def make(options: PropagateMiddleSlice) -> None:
        """See `MaskMaker.make`."""
        propagate_middle_slices(options)
