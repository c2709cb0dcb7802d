"""Another prediction with the models of a SAM-Mix method: with other options, or from boxes of the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import SamMixPredictOptions
from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.mask_makers.follow_up import F, FollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import SET_FOR_MASKS, CommandOptions
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.studies.trainings.sam_mix import SamMix


@dataclass(frozen=True)
class PredictAgain(FollowUp):
    """`frugalseg sam-mix predict`."""

    KEY = "predict"
    OPTIONS = CommandOptions(SamMixPredictOptions, (*SET_FOR_MASKS, "model", "base"))

    def check_plan(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.check_plan`."""
        if before is None:
            raise entry.error("predict: the method is not stated", "add of: METHOD")
        if before.training is None or before.training.KEY != SamMix.KEY:
            raise given[self.KEY].error(
                f"{self.of} is not a sam_mix method", "write for example refine: {oracle: true}"
            )
        return self

    def describe_method(self, options: SamMixPredictOptions) -> str:
        """See `FollowUp.describe_method`."""
        again = f"models of {self.of}, predicting again"
        return f"{again} from boxes of the references: an oracle, not a method" if self.oracle else again

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> SamMixPredictOptions:
        """See `MaskMaker.mask_options`."""
        given = {"modality": scans.modality, "model": sources[0].run, **self.command_options(scans, out)}
        return SamMixPredictOptions(**given)

    @staticmethod
    def make(options: SamMixPredictOptions) -> object:
        """See `MaskMaker.make`."""
        return SamMix.make(options)
