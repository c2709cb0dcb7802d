"""Models of SAM-Mix that predict again, with other options or from boxes of the references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import SamMixPredictOptions
from frugalseg.studies.jobs.job import ModelJob
from frugalseg.studies.mask_makers.follow_up import F, FollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import OF_MASKS, CommandOptions
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.studies.trainings.sam_mix import SamMix


@dataclass(frozen=True)
class PredictAgain(FollowUp):
    """`frugalseg sam-mix predict`."""

    KEY = "predict"
    OPTIONS = CommandOptions(SamMixPredictOptions, (*OF_MASKS, "model", "base"))

    def checked(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.checked`."""
        if before is None:
            raise entry.error("predict: the method is not stated", "add of: METHOD")
        if before.training is None or before.training.KEY != SamMix.KEY:
            raise given[self.KEY].error(f"{self.of} is no sam_mix method", "write for example refine: {oracle: true}")
        return self

    def note(self, options: SamMixPredictOptions) -> str:
        """See `FollowUp.note`."""
        begun = f"models of {self.of}, predicting again"
        return f"{begun} from boxes of the references: an oracle, no method" if self.oracle else begun

    def options(self, method: str, scans: ScansToSegment, model: ModelJob | None, out: Path) -> SamMixPredictOptions:
        """See `MaskMaker.options`."""
        assert model is not None  # `checked` saw to it
        given = {"modality": scans.modality, **self.given(scans, out)}
        return SamMixPredictOptions(model=model.options.out, **given)

    @staticmethod
    def make(options: SamMixPredictOptions) -> object:
        """See `MaskMaker.make`."""
        return SamMix.make(options)
