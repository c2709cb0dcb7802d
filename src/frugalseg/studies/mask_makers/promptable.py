"""The common base of `refine` and `propagate`, which use a promptable model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.mask_makers.follow_up import F, FollowUp
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values, make_options
from frugalseg.studies.plan.weights import hash_weights, resolve_weights
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class PromptableFollowUp(FollowUp):
    """A follow-up with a promptable model."""

    def check_plan(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """See `FollowUp.check_plan`: the weights must be installed."""
        model = make_options(self.OPTIONS.kind, self.values).model
        return replace(self, values=resolve_weights(given[self.KEY], "model", model, self.values))

    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        """See `MaskMaker.identity`."""
        weights = hash_weights(make_options(self.OPTIONS.kind, self.values).model)
        return {**super().identity(method, tests, sources), "weights": weights}

    def command_options(self, scans: ScansToSegment, out: Path) -> Values:
        """See `FollowUp.command_options`; with the cache of embeddings that all such jobs share."""
        values = {**scans.grey, **super().command_options(scans, out)}
        if values.get("engine") != "sam2":  # whose memory cannot be cached
            values["cache"] = scans.study / "embeddings"
        return values
