"""SAM-Mix as a study's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import SamMixPredictOptions, SamMixTrainOptions
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan, Training
from frugalseg.studies.plan.method_parts import Shared, own_backbones, own_budgets, own_note
from frugalseg.studies.plan.options import OF_RUNS, CommandOptions, of_plan
from frugalseg.studies.plan.values import read_values
from frugalseg.studies.plan.weights import weights_sha256, with_weights
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class SamMix(Training):
    """SAM-Mix (`frugalseg sam-mix train`): its network is the base model and a classifier, so it stands beside one
    backbone only."""

    KEY = "sam_mix"
    OPTIONS = CommandOptions(SamMixTrainOptions, (*OF_RUNS, "budget", "label_draw"))

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared) -> MethodPlan:
        """See `Training.read`."""
        given = entry.known("note", "sam_mix", "backbones", "budgets")
        mine = own_backbones(given, shared.backbones)
        if "backbones" in given and len(mine) > 1:
            raise given["backbones"].error("SAM-Mix has a network of its own", "name one, in whose tables it is listed")
        values = read_values(cls.OPTIONS, given["sam_mix"], shared.values["sam_mix"])
        options: SamMixTrainOptions = of_plan(SamMixTrainOptions, values)
        training = cls(with_weights(given["sam_mix"], "base", options.base, values))
        note = own_note(given, f"SAM-Mix on {options.base}, {options.adapt} adapted; prompted by its classifier alone")
        budgets = own_budgets(given, shared.budgets, trained=True)
        return MethodPlan(name, None, shared.pretrain_data, training, False, mine[:1], budgets, note, entry)

    def content(self, options: SamMixTrainOptions) -> dict[str, object]:
        """See `Training.content`."""
        return {"base_weights": weights_sha256(options.base)}

    def prediction(self, options: SamMixTrainOptions, scans: ScansToSegment, out: Path) -> SamMixPredictOptions:
        """See `Training.prediction`."""
        given = {"modality": scans.modality, **scans.options(out)}
        return SamMixPredictOptions(model=options.out, device=options.device, precision=options.precision, **given)

    @staticmethod
    def train(options: SamMixTrainOptions) -> object:
        """See `Training.train`."""
        from frugalseg.sam_mix.train import sam_mix_train

        return sam_mix_train(options)

    @staticmethod
    def make(options: SamMixPredictOptions) -> object:
        """See `Training.make`."""
        from frugalseg.sam_mix.predict import sam_mix_predict

        return sam_mix_predict(options)
