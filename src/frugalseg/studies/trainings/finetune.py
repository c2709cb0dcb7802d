"""Fine-tuning as a training of studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.options import FinetuneOptions, PredictOptions, PretrainOptions
from frugalseg.segmentation.presets import PRESETS, resolve_preset
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MethodPlan, StudyTraining
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_backbones, read_own_budgets
from frugalseg.studies.plan.options import PRETRAIN, SET_FOR_TRAININGS, CommandOptions, Values, make_options
from frugalseg.studies.plan.pretraining import check_pretraining, read_pretraining_data
from frugalseg.studies.plan.values import locate_error, read_values
from frugalseg.studies.plan.weights import hash_weights, resolve_weights
from frugalseg.studies.plan.yaml_source import YamlValue, flags_to_keys

PROMPTABLE = ("refine", "propagate")
"""Options that name a promptable model."""


@dataclass(frozen=True)
class Finetune(StudyTraining):
    """Fine-tuning (`frugalseg finetune`): from scratch, from a pre-trained encoder, or from published weights."""

    KEY = "finetune"
    OPTIONS = CommandOptions(
        FinetuneOptions,
        (
            *SET_FOR_TRAININGS,
            "folds",
            "fold",
            "encoder",
            "init",
            "teacher",
            "budget",
            "label_draw",
            "transductive",
            "cache",
        ),
    )

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings) -> MethodPlan:
        """See `StudyTraining.read`."""
        given = entry.check_keys("note", "pretrain", "finetune", "transductive", "backbones", "budgets")
        mine = read_own_backbones(given, shared.backbones)
        budgets = read_own_budgets(given, shared.budgets, trained=True)
        pretrain, source = None, shared.pretrain_data
        if "pretrain" in given:
            pretrain = read_values(PRETRAIN, given["pretrain"], shared.values["pretrain"], "data")
            source = read_pretraining_data(given["pretrain"], source, shared.data, shared.train)
        transductive = given["transductive"].as_type(bool) if "transductive" in given else False
        if transductive and pretrain is None:
            raise given["transductive"].error("without pretrain: no training step sees test scans", "remove it")
        if pretrain is not None:
            check_pretraining(given, pretrain, transductive, shared.data[source])
        values = read_values(cls.OPTIONS, given.get("finetune"), shared.values["finetune"])
        for key in PROMPTABLE:
            if values.get(key) is not None:
                values = resolve_weights(given.get("finetune", entry), key, values[key], values)
        _check_finetuning(given.get("finetune"), entry, values, pretrain)
        if pretrain is not None and values.get("weights") is not None:
            raise entry.error(
                "starts from a pre-training and from published weights",
                "give only one of them, or give the weights to pretrain:",
            )
        note = read_note(given, _describe_training(pretrain, source, values, transductive))
        method = MethodPlan(name, pretrain, source, cls(values), transductive, mine, budgets, note, entry)
        for backbone in mine:
            _check_backbone(method, backbone, values)
            _check_norms(method, backbone)
        return method

    def to_values(self, method: MethodPlan) -> Values:
        """See `StudyTraining.to_values`."""
        return {**method.pretraining_values(), **super().to_values(method)}

    def identity(self, options: FinetuneOptions) -> dict[str, object]:
        """See `StudyTraining.identity`."""
        content: dict[str, object] = {"preset_content": PRESETS[options.preset].content()}
        if options.weights is not None:
            content["weights"] = sha256(options.weights)
        for key in PROMPTABLE:
            if (name := getattr(options, key)) is not None:
                content[f"{key}_weights"] = hash_weights(name)
        if options.backbone not in BACKBONES:
            content["frozen_encoder"] = hash_weights(options.backbone)
        return content

    def prediction_options(self, options: FinetuneOptions, scans: ScansToSegment, out: Path) -> PredictOptions:
        """See `StudyTraining.prediction_options`."""
        given = {"modality": scans.modality, **scans.common_options(out)}
        if options.backbone not in BACKBONES:
            given["cache"] = scans.study / "features"  # of all runs: encoding takes most of their time
        return PredictOptions(model=options.out, device=options.device, precision=options.precision, **given)

    @staticmethod
    def train(options: FinetuneOptions) -> object:
        """See `StudyTraining.train`."""
        from frugalseg.commands.finetune import finetune

        return finetune(options)

    @staticmethod
    def make(options: PredictOptions) -> object:
        """See `StudyTraining.make`."""
        from frugalseg.segmentation.predict import segment_scans

        return segment_scans(options)

    @staticmethod
    def unlabelled_use(options: FinetuneOptions) -> str:
        """See `StudyTraining.unlabelled_use`."""
        return options.semi or PRESETS[options.preset].semi


def _check_finetuning(given: YamlValue | None, entry: YamlValue, finetune: Values, pretrain: Values | None) -> None:
    """Refuse options that `finetune` would only reject when the job runs.

    Args:
        given: the method's own options of fine-tuning.
        entry: the method.
        finetune: all options of fine-tuning.
        pretrain: all options of pre-training.
    """
    context = None if pretrain is None else pretrain.get("context") or 0
    try:
        resolve_preset(make_options(FinetuneOptions, finetune), context)
    except OptionError as error:
        raise locate_error({} if given is None else given.mapping(), entry, error) from None


def _check_backbone(method: MethodPlan, backbone: str, finetune: Values) -> None:
    """Refuse what a backbone cannot have."""
    published = any((options or {}).get("weights") for options in (method.pretrain, finetune))
    cure = "restrict the method with backbones: […]"
    if backbone in BACKBONES:
        if published and BACKBONES[backbone].load_published is None:
            raise method.entry.error(f"there are no published weights for {backbone}", cure)
        if finetune.get("copies") is not None:
            raise method.entry.error(f"copies are for frozen encoders, {backbone} is none", cure)
    elif published or method.pretrain is not None:
        raise method.entry.error(f"{backbone} is a frozen encoder with weights of its own", cure)


def _check_norms(method: MethodPlan, backbone: str) -> None:
    try:
        before, after = method.choose_norms(backbone)
    except OptionError as error:
        raise method.entry.error(flags_to_keys(error.problem), error.cure) from None
    if before != after and (before, after) != ("instance", "instance_affine"):  # its affine part starts as identity
        raise method.entry.error(
            f"its encoder is pre-trained with norm {before} and fine-tuned with norm {after}",
            "remove the norm of pretrain: its default is that of the fine-tuning",
        )


def _describe_training(pretrain: Values | None, source: str, finetune: Values, transductive: bool) -> str:
    options = make_options(FinetuneOptions, finetune)
    start = "from scratch"
    if pretrain is not None:
        before = make_options(PretrainOptions, pretrain)
        recipe = "" if before.recipe in (None, before.method) else f" with the recipe of {before.recipe}"
        seen = "every scan, including those of test patients," if transductive else "the training patients' scans"
        start = f"pre-trained by {before.method}{recipe} on {seen} of {source}"
    elif options.weights is not None:
        start = f"from the published weights {options.weights.name}"
    semi = "" if options.semi in (None, "none") else f", unlabelled slices used by {options.semi}"
    semi += "" if options.refine is None else f", pseudo-labels refined by {options.refine}"
    chosen = "" if options.choose == "random" else f", on slices chosen by {options.choose}"
    chosen += "" if options.propagate is None else f", outlined slices propagated by {options.propagate}"
    return f"{start}; fine-tuned with the {options.preset} preset{chosen}{semi}"
