"""Masks refined by a promptable model that is prompted with boxes around them, or around the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import RefineOptions
from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.mask_makers.follow_up import F, input_masks_folder
from frugalseg.studies.mask_makers.promptable import PromptableFollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import SET_FOR_MASKS, CommandOptions
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class Refine(PromptableFollowUp):
    """`frugalseg refine`."""

    KEY = "refine"
    OPTIONS = CommandOptions(RefineOptions, (*SET_FOR_MASKS, "masks"))

    def check_plan(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.check_plan`."""
        checked = super().check_plan(given, entry, before)
        if self.oracle and "of" in given:
            raise given["of"].error(
                "boxes of the references do not depend on a method's masks", "remove it: there is one such run"
            )
        if self.of is None and not self.oracle:
            raise entry.error("refine: the method is not stated", "add of: METHOD")
        return checked

    def describe_method(self, options: RefineOptions) -> str:
        """See `FollowUp.describe_method`."""
        if self.of is None:
            return (
                f"nothing is trained: {options.model} segments the content of the references' boxes: "
                "an oracle, not a method"
            )
        return f"masks of {self.of}, refined by {options.model} from boxes around them"

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> RefineOptions:
        """See `MaskMaker.mask_options`."""
        return RefineOptions(masks=input_masks_folder(sources, scans), **self.command_options(scans, out))

    @staticmethod
    def make(options: RefineOptions) -> object:
        """See `MaskMaker.make`."""
        from frugalseg.refinement.refine import refine

        return refine(options)
