"""SAM-Mix as a training of studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.options import SamMixPredictOptions, SamMixTrainOptions
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan, StudyTraining
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_backbones, read_own_budgets
from frugalseg.studies.plan.options import SET_FOR_TRAININGS, CommandOptions, make_options
from frugalseg.studies.plan.values import read_values
from frugalseg.studies.plan.weights import hash_weights, resolve_weights
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class SamMix(StudyTraining):
    """SAM-Mix (`frugalseg sam-mix train`): its network is the base model and a classifier, none of the study's
    backbones, so it is listed at one backbone only."""

    KEY = "sam_mix"
    OPTIONS = CommandOptions(SamMixTrainOptions, (*SET_FOR_TRAININGS, "budget", "label_draw"))

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings) -> MethodPlan:
        """See `StudyTraining.read`."""
        given = entry.check_keys("note", "sam_mix", "backbones", "budgets")
        mine = read_own_backbones(given, shared.backbones)
        if "backbones" in given and len(mine) > 1:
            raise given["backbones"].error(
                "SAM-Mix uses none of the backbones", "name one backbone: SAM-Mix is listed with its methods"
            )
        values = read_values(cls.OPTIONS, given["sam_mix"], shared.values["sam_mix"])
        options: SamMixTrainOptions = make_options(SamMixTrainOptions, values)
        training = cls(resolve_weights(given["sam_mix"], "base", options.base, values))
        note = read_note(given, f"SAM-Mix on {options.base}, {options.adapt} adapted; prompted only by its classifier")
        budgets = read_own_budgets(given, shared.budgets, trained=True)
        return MethodPlan(name, None, shared.pretrain_data, training, False, mine[:1], budgets, note, entry)

    def identity(self, options: SamMixTrainOptions) -> dict[str, object]:
        """See `StudyTraining.identity`."""
        return {"base_weights": hash_weights(options.base)}

    def prediction_options(self, options: SamMixTrainOptions, scans: ScansToSegment, out: Path) -> SamMixPredictOptions:
        """See `StudyTraining.prediction_options`."""
        given = {"modality": scans.modality, **scans.common_options(out)}
        return SamMixPredictOptions(model=options.out, device=options.device, precision=options.precision, **given)

    @staticmethod
    def train(options: SamMixTrainOptions) -> object:
        """See `StudyTraining.train`."""
        from frugalseg.sam_mix.train import sam_mix_train

        return sam_mix_train(options)

    @staticmethod
    def make(options: SamMixPredictOptions) -> object:
        """See `StudyTraining.make`."""
        from frugalseg.sam_mix.predict import sam_mix_predict

        return sam_mix_predict(options)
