"""Masks refined by a promptable model from boxes around them, or around the references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import RefineOptions
from frugalseg.studies.jobs.job import ModelJob
from frugalseg.studies.mask_makers.follow_up import F, masks_of
from frugalseg.studies.mask_makers.promptable import PromptableFollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import OF_MASKS, CommandOptions
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class Refine(PromptableFollowUp):
    """`frugalseg refine`."""

    KEY = "refine"
    OPTIONS = CommandOptions(RefineOptions, (*OF_MASKS, "masks"))

    def checked(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.checked`."""
        checked = super().checked(given, entry, before)
        if self.oracle and "of" in given:
            raise given["of"].error(
                "boxes of the references take nothing of a method's masks", "take it out: it is one run"
            )
        if self.of is None and not self.oracle:
            raise entry.error("refine: the method is not stated", "add of: METHOD")
        return checked

    def note(self, options: RefineOptions) -> str:
        """See `FollowUp.note`."""
        if self.of is None:
            return (
                f"nothing is trained: {options.model} outlines what is in the references' boxes: an oracle, no method"
            )
        return f"masks of {self.of}, refined by {options.model} from boxes around them"

    def options(self, method: str, scans: ScansToSegment, model: ModelJob | None, out: Path) -> RefineOptions:
        """See `MaskMaker.options`."""
        return RefineOptions(masks=masks_of(model, scans), **self.given(scans, out))

    @staticmethod
    def make(options: RefineOptions) -> object:
        """See `MaskMaker.make`."""
        from frugalseg.refinement.refine import refine

        return refine(options)
