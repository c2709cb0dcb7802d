"""What `refine` and `propagate` have in common: a promptable model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frugalseg.studies.jobs.job import ModelJob
from frugalseg.studies.mask_makers.follow_up import F, FollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values, of_plan
from frugalseg.studies.plan.weights import weights_sha256, with_weights
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class PromptableFollowUp(FollowUp):
    """A follow-up by a promptable model."""

    def checked(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.checked`: the weights are here."""
        model = of_plan(self.OPTIONS.kind, self.values).model
        return replace(self, values=with_weights(given[self.KEY], "model", model, self.values))

    def content(self, method: str, tests: Sequence[ScansToSegment], model: ModelJob | None) -> dict[str, object]:
        """See `MaskMaker.content`."""
        weights = weights_sha256(of_plan(self.OPTIONS.kind, self.values).model)
        return {**super().content(method, tests, model), "weights": weights}

    def given(self, scans: ScansToSegment, out: Path) -> Values:
        """See `FollowUp.given`; with the cache of embeddings that all such jobs share."""
        values = {**scans.grey, **super().given(scans, out)}
        if values.get("engine") != "sam2":  # whose memory no cache can stand in for
            values["cache"] = scans.study / "embeddings"
        return values
