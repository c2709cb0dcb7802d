"""Fine-tuning as a study's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.options import FinetuneOptions, PredictOptions, PretrainOptions
from frugalseg.segmentation.presets import PRESETS, resolve_preset
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan, Training
from frugalseg.studies.plan.method_parts import Shared, own_backbones, own_budgets, own_note
from frugalseg.studies.plan.options import OF_RUNS, PRETRAIN, CommandOptions, Values, of_plan
from frugalseg.studies.plan.pretraining import check_pretraining, read_source
from frugalseg.studies.plan.values import read_values, where
from frugalseg.studies.plan.weights import weights_sha256, with_weights
from frugalseg.studies.plan.yaml_source import YamlValue, without_flags


@dataclass(frozen=True)
class Finetune(Training):
    """Fine-tuning (`frugalseg finetune`), from scratch, from a pre-training, or from published weights."""

    KEY = "finetune"
    OPTIONS = CommandOptions(FinetuneOptions, (*OF_RUNS, "encoder", "budget", "label_draw", "transductive"))

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared) -> MethodPlan:
        """See `Training.read`."""
        given = entry.known("note", "pretrain", "finetune", "transductive", "backbones", "budgets")
        mine = own_backbones(given, shared.backbones)
        budgets = own_budgets(given, shared.budgets, trained=True)
        pretrain, source = None, shared.pretrain_data
        if "pretrain" in given:
            pretrain = read_values(PRETRAIN, given["pretrain"], shared.values["pretrain"], "data")
            source = read_source(given["pretrain"], source, shared.data, shared.train)
        transductive = given["transductive"].as_type(bool) if "transductive" in given else False
        if transductive and pretrain is None:
            raise given["transductive"].error(
                "without pretrain: nothing sees test scans before the test", "take it out"
            )
        if pretrain is not None:
            check_pretraining(given, pretrain, transductive, shared.data[source])
        values = read_values(cls.OPTIONS, given.get("finetune"), shared.values["finetune"])
        if values.get("refine") is not None:
            values = with_weights(given.get("finetune", entry), "refine", values["refine"], values)
        _check_finetuning(given.get("finetune"), entry, values, pretrain)
        if pretrain is not None and values.get("weights") is not None:
            raise entry.error(
                "starts from a pre-training and from weights", "give one, or give the weights to pretrain:"
            )
        note = own_note(given, _training_note(pretrain, source, values, transductive))
        method = MethodPlan(name, pretrain, source, cls(values), transductive, mine, budgets, note, entry)
        for backbone in mine:
            _check_norms(method, backbone)
            published = any((options or {}).get("weights") for options in (pretrain, values))
            if published and BACKBONES[backbone].load_published is None:
                raise entry.error(
                    f"there are no published weights for {backbone}", "limit the method by backbones: […]"
                )
        return method

    def resolved(self, method: MethodPlan) -> Values:
        """See `Training.resolved`."""
        return {**method.resolved_pretraining(), **super().resolved(method)}

    def content(self, options: FinetuneOptions) -> dict[str, object]:
        """See `Training.content`."""
        content: dict[str, object] = {"preset_content": PRESETS[options.preset].content()}
        if options.weights is not None:
            content["weights"] = sha256(options.weights)
        if options.refine is not None:
            content["refine_weights"] = weights_sha256(options.refine)
        return content

    def prediction(self, options: FinetuneOptions, scans: ScansToSegment, out: Path) -> PredictOptions:
        """See `Training.prediction`."""
        given = {"modality": scans.modality, **scans.options(out)}
        return PredictOptions(model=options.out, device=options.device, precision=options.precision, **given)

    @staticmethod
    def train(options: FinetuneOptions) -> object:
        """See `Training.train`."""
        from frugalseg.commands.finetune import finetune

        return finetune(options)

    @staticmethod
    def make(options: PredictOptions) -> object:
        """See `Training.make`."""
        from frugalseg.segmentation.predict import segment_scans

        return segment_scans(options)

    @staticmethod
    def unlabelled(options: FinetuneOptions) -> str:
        """See `Training.unlabelled`."""
        return options.semi or PRESETS[options.preset].semi


def _check_finetuning(given: YamlValue | None, entry: YamlValue, finetune: Values, pretrain: Values | None) -> None:
    """What `finetune` would only find when the job runs; `given` are the method's own options, `entry` the method."""
    context = None if pretrain is None else pretrain.get("context") or 0
    try:
        resolve_preset(of_plan(FinetuneOptions, finetune), context)
    except OptionError as error:
        raise where({} if given is None else given.mapping(), entry, error) from None


def _check_norms(method: MethodPlan, backbone: str) -> None:
    try:
        before, after = method.norms(backbone)
    except OptionError as error:
        raise method.entry.error(without_flags(error.problem), error.cure) from None
    if before != after and (before, after) != ("instance", "instance_affine"):  # which starts as the identity
        raise method.entry.error(
            f"its encoder is pre-trained with norm {before} and fine-tuned with norm {after}",
            "leave out the norm of pretrain: it is then that of the fine-tuning",
        )


def _training_note(pretrain: Values | None, source: str, finetune: Values, transductive: bool) -> str:
    options = of_plan(FinetuneOptions, finetune)
    begun = "from scratch"
    if pretrain is not None:
        before = of_plan(PretrainOptions, pretrain)
        recipe = "" if before.recipe in (None, before.method) else f" on the recipe of {before.recipe}"
        seen = "every scan, test patients' too" if transductive else "the training patients' scans"
        begun = f"pre-trained by {before.method}{recipe} on {seen} of {source}"
    elif options.weights is not None:
        begun = f"from the published weights {options.weights.name}"
    semi = "" if options.semi in (None, "none") else f", unlabelled slices used by {options.semi}"
    semi += "" if options.refine is None else f", pseudo-labels refined by {options.refine}"
    return f"{begun}; fine-tuned with the {options.preset} preset{semi}"
