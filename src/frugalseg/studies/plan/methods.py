"""Reading the methods of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from frugalseg.errors import FrugalsegError, OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.options import (
    FinetuneOptions,
    PretrainOptions,
    RefineOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
)
from frugalseg.pretraining.methods import METHODS, OF_SOME_METHODS, check_options, chosen_method, reads_superpixels
from frugalseg.segmentation.presets import chosen_preset
from frugalseg.studies.plan.method_parts import Shared, own_backbones, own_budgets, own_note
from frugalseg.studies.plan.other_masks import read_masks
from frugalseg.studies.plan.plan import FURTHER, DataPlan, Further, MethodPlan, Training, Values, of_plan
from frugalseg.studies.plan.values import chosen, read_values, some, where
from frugalseg.studies.plan.yaml_source import Entry, without_flags

OWN = ("note", "pretrain", "finetune", "sam_mix", "transductive", "backbones", "budgets")
OF_ANOTHER = ("note", "of", *FURTHER, "budgets")


def read_methods(entry: Entry, shared: Shared) -> tuple[MethodPlan, ...]:
    """The methods in the order of the file; one may go on with the masks of another, wherever that stands."""
    entries = some(entry)
    further = {name for name, one in entries.items() if {"of", *FURTHER} & one.mapping().keys()}
    own = {
        name: (read_masks if "masks" in one.mapping() else _read_own)(name, one, shared)
        for name, one in entries.items()
        if name not in further
    }
    return tuple(
        _read_further(name, one, own, shared) if name in further else own[name] for name, one in entries.items()
    )


def _read_own(name: str, entry: Entry, shared: Shared) -> MethodPlan:
    """A method that trains models."""
    given = entry.known(*OWN)
    mine = own_backbones(given, shared.backbones)
    budgets = own_budgets(given, shared.budgets, trained=True)
    if "sam_mix" in given:
        return _read_sam_mix(name, entry, shared, mine)
    pretrain, source = None, shared.pretrain_data
    if "pretrain" in given:
        pretrain = read_values(PretrainOptions, given["pretrain"], shared.values["pretrain"], "data")
        source = read_source(given["pretrain"], source, shared.data, shared.train)
    transductive = given["transductive"].as_type(bool) if "transductive" in given else False
    if transductive and pretrain is None:
        raise given["transductive"].error("without pretrain: nothing sees test scans before the test", "take it out")
    if pretrain is not None:
        _check_pretraining(given, pretrain, transductive, shared.data[source])
    finetune: Values = read_values(FinetuneOptions, given.get("finetune"), shared.values["finetune"])
    if finetune.get("refine") is not None:
        finetune = _with_weights(given.get("finetune", entry), "refine", finetune["refine"], finetune)
    _check_finetuning(given.get("finetune"), entry, finetune, pretrain)
    if pretrain is not None and finetune.get("weights") is not None:
        raise entry.error("starts from a pre-training and from weights", "give one, or give the weights to pretrain:")
    note = own_note(given, _training_note(pretrain, source, finetune, transductive))
    training = Training(FinetuneOptions, finetune)
    method = MethodPlan(name, pretrain, source, training, transductive, mine, budgets, note, entry)
    for backbone in mine:
        _check_norms(method, backbone)
        published = any((values or {}).get("weights") for values in (pretrain, finetune))
        if published and BACKBONES[backbone].load_published is None:
            raise entry.error(f"there are no published weights for {backbone}", "limit the method by backbones: […]")
    return method


def _read_sam_mix(name: str, entry: Entry, shared: Shared, backbones: tuple[str, ...]) -> MethodPlan:
    """SAM-Mix: its network is the base model and a classifier, so it stands beside one backbone only."""
    given = entry.known("note", "sam_mix", "backbones", "budgets")
    if "backbones" in given and len(backbones) > 1:
        raise given["backbones"].error("SAM-Mix has a network of its own", "name one, in whose tables it is listed")
    values: Values = read_values(SamMixTrainOptions, given["sam_mix"], shared.values["sam_mix"])
    options: SamMixTrainOptions = of_plan(SamMixTrainOptions, values)
    values = _with_weights(given["sam_mix"], "base", options.base, values)
    note = own_note(given, f"SAM-Mix on {options.base}, {options.adapt} adapted; prompted by its classifier alone")
    training = Training(SamMixTrainOptions, values)
    budgets = own_budgets(given, shared.budgets, trained=True)
    return MethodPlan(name, None, shared.pretrain_data, training, False, backbones[:1], budgets, note, entry)


def _read_further(name: str, entry: Entry, own: Mapping[str, MethodPlan], shared: Shared) -> MethodPlan:
    """A method that goes on with the masks of another, or with annotated slices of the references."""
    given = entry.known(*OF_ANOTHER)
    keys = [key for key in FURTHER if key in given]
    if len(keys) != 1:
        raise entry.error(
            f"of: needs exactly one of {', '.join(FURTHER)}, found {' and '.join(keys) or 'none'}",
            f"give one of: {', '.join(FURTHER)}",
        )
    (key,) = keys
    trained = {method: plan for method, plan in own.items() if plan.training is not None}
    of = chosen(given["of"], trained, "method that trains models") if "of" in given else None
    guide = ("oracle",) if key != "propagate" else ()
    values: Values = read_values(FURTHER[key], given[key], {}, *guide)
    options, oracle = of_plan(FURTHER[key], values), given[key].mapping().get("oracle")
    if key != "predict":
        values = _with_weights(given[key], "model", options.model, values)
    further = Further(
        kind=FURTHER[key],
        values=values,
        of=of,
        oracle=bool(oracle is not None and oracle.as_type(bool)),
    )
    if key == "refine" and further.oracle and "of" in given:
        raise given["of"].error(
            "boxes of the references take nothing of a method's masks", "take it out: it is one run"
        )
    if further.of is None and key != "propagate" and not (key == "refine" and further.oracle):
        raise entry.error(f"{key}: the method is not stated", "add of: METHOD")
    before = None if further.of is None else own[further.of]
    if key == "predict":
        _check_predicted_again(given[key], before, further)
    note = own_note(given, _further_note(further, options))
    if before is None:
        budgets = own_budgets(given, shared.budgets, trained=False)
        alone = shared.backbones[:1]
        return MethodPlan(name, None, shared.pretrain_data, None, False, alone, budgets, note, entry, further)
    budgets = own_budgets(given, before.budgets, trained=True)
    return replace(before, name=name, budgets=budgets, note=note, entry=entry, further=further)


def _check_predicted_again(entry: Entry, before: MethodPlan | None, further: Further) -> None:
    if before is None or before.training is None or before.training.kind is not SamMixTrainOptions:
        raise entry.error(f"{further.of} is no sam_mix method", "write for example refine: {oracle: true}")


def _with_weights(entry: Entry, key: str, name: str, values: Values) -> Values:
    """The values, a path of weights taken from the plan's folder as all other paths are; names go before files.

    Weights that are not here end a study before its first run.
    """
    from frugalseg.promptable.load import find_weights
    from frugalseg.weights.catalogue import CATALOGUE
    from frugalseg.weights.folder import installed

    beside = (entry.file.parent / Path(name).expanduser()).resolve()
    if name not in {*CATALOGUE, *installed()} and beside.exists():
        return {**values, key: str(beside)}
    try:
        find_weights(name)
    except FrugalsegError as error:
        raise entry.mapping().get(key, entry).error(without_flags(error.problem), error.cure) from None
    return values


def read_source(pretrain: Entry | None, usual: str, data: Mapping[str, DataPlan], train: str) -> str:
    """The data set that is pre-trained on: what stands under `pretrain: data`, or the usual one."""
    given = {} if pretrain is None else pretrain.mapping()
    if "data" not in given:
        return usual
    source = chosen(given["data"], data, "data set")
    there, here = data[source].intensities, data[train].intensities
    if not set(there) & set(here):
        raise given["data"].error(
            f"{source} is scaled by {' or '.join(there)}, {train} by {' or '.join(here)}",
            "give both the same modality and window (or percentiles)",
        )
    return source


def check_shared(entry: Entry | None, methods: Iterable[MethodPlan]) -> None:
    """Refuse a shared pre-training option that no method reads, and so would change nothing."""
    pretrained = [of_plan(PretrainOptions, m.pretrain) for m in methods if m.pretrain is not None]
    read = {name for options in pretrained for name in chosen_method(options).reads}
    for name, value in ({} if entry is None else entry.mapping()).items():
        if name in OF_SOME_METHODS and name not in read:
            raise value.error("is not used by any of the plan's methods", "take it out")


def _check_pretraining(given: Mapping[str, Entry], pretrain: Values, transductive: bool, source: DataPlan) -> None:
    options = of_plan(PretrainOptions, pretrain)
    if reads_superpixels(options) and not source.options.superpixels:
        raise given["pretrain"].error(
            f"{options.method} learns from superpixels, and {source.name} has none",
            f"add superpixels: true to data.{source.name}",
        )
    try:
        check_options(options)
    except OptionError as error:
        raise where(given["pretrain"].mapping(), given["pretrain"], error) from None
    if transductive and METHODS[options.method].annotation != "none":
        raise given["transductive"].error(
            f"{options.method} uses image-level labels made from masks, here those of test patients",
            "take it out, or pre-train by a method that needs no labels",
        )


def _check_finetuning(given: Entry | None, entry: Entry, finetune: Values, pretrain: Values | None) -> None:
    """What `finetune` would only find when the job runs; `given` are the method's own options, `entry` the method."""
    encoder = None if pretrain is None else {"context": pretrain.get("context") or 0}
    try:
        chosen_preset(of_plan(FinetuneOptions, finetune), encoder)
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


def _further_note(further: Further, options: Any) -> str:
    if isinstance(options, SamMixPredictOptions):
        begun = f"models of {further.of}, predicting again"
        return f"{begun} from boxes of the references: an oracle, no method" if further.oracle else begun
    if isinstance(options, RefineOptions):
        if further.of is None:
            return f"no training: {options.model} segments what is in the references' boxes: an oracle, no method"
        return f"masks of {further.of}, refined by {options.model} from boxes around them"
    carried = f"propagated through the scan by {options.model} (engine {options.engine})"
    if further.of is None:
        return f"no training: the reference's middle slice of each test scan is given, {carried}"
    return f"the middle slice of each mask of {further.of}, {carried}"
