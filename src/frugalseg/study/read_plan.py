"""Reading a plan: all of it is checked before anything runs.

Every value is checked by the dataclasses that the commands take, so a plan never holds what a command would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from frugalseg.contrast.methods import METHODS, OF_SOME_METHODS, check_options
from frugalseg.dataset.budget import Budget
from frugalseg.dataset.targets import parse_targets
from frugalseg.demo.phantom import LABELS
from frugalseg.errors import FrugalsegError, OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.options import FinetuneOptions, PrepareOptions, PretrainOptions
from frugalseg.study.lines import Entry, read_lines
from frugalseg.study.plan import NOT_IN_PLANS, NOWHERE, DataPlan, MethodPlan, Plan, TestPlan, Values

NEEDED = ("data", "train", "tests", "methods", "budgets")
OPTIONAL = ("name", "description", "pretrain", "finetune", "backbones", "draws", "seeds", "baseline")
PHANTOM_KEYS = ("phantoms", "grid")
TEST_KEYS = ("data", "patients", "in_domain", "millimetres")

INSTEAD = {
    "seed": "list the seeds under seeds:",
    "budget": "list the budgets under budgets:",
    "draw": "list the draws under draws:",
    "backbone": "list the backbones under backbones:",
    "split": "give it to the data set",
    "encoder": "write pretrain: beside finetune:",
    "transductive": "write it beside pretrain:",
}
"""Option that a plan may not hold → where its meaning belongs."""

Name = TypeVar("Name", str, int)


def read_plan(path: Path) -> Plan:
    """Read and check a plan; relative paths in it are taken from its folder.

    Raises:
        OptionError: naming the file and the line: an unknown key, data set, method, backbone, preset or budget, a
            value of a wrong type or out of its range, a path that is not there.
    """
    whole = read_lines(path.resolve())
    top = whole.known(*NEEDED, *OPTIONAL)
    if missing := [name for name in NEEDED if name not in top]:
        raise whole.error(f"{missing[0]}: is missing", f"add it; a plan needs {', '.join(NEEDED)}")
    data = {name: _read_data(name, entry) for name, entry in _some(top["data"]).items()}
    train = _chosen(top["train"], data, "data set")
    if not data[train].organs:
        raise top["train"].error(f"{train} names no target", f"add target: [name=value] to data.{train}")
    for name, entry in _some(top["tests"]).items():
        _add_own_data(name, entry, data)
    backbones = _read_backbones(top["backbones"]) if "backbones" in top else ("unet",)
    shared = {
        name: _read_values(kind, top.get(name), {})
        for name, kind in (("pretrain", PretrainOptions), ("finetune", FinetuneOptions))
    }
    methods = tuple(
        _read_method(name, entry, shared, data, train, backbones) for name, entry in _some(top["methods"]).items()
    )
    _check_shared(top.get("pretrain"), methods)
    names = [method.name for method in methods]
    budgets = _read_budgets(top["budgets"])
    return Plan(
        name=top["name"].as_type(str) if "name" in top else path.stem,
        description=top["description"].as_type(str).strip() if "description" in top else "",
        data=data,
        train=train,
        tests=tuple(_read_test(name, entry, data, train) for name, entry in top["tests"].mapping().items()),
        backbones=backbones,
        methods=methods,
        budgets=tuple(budgets),
        budget_entries=budgets,
        draws=_read_numbers(top["draws"]) if "draws" in top else (0,),
        seeds=_read_numbers(top["seeds"]) if "seeds" in top else (0,),
        baseline=_chosen(top["baseline"], names, "method") if "baseline" in top else names[0],
    )


def _check_shared(entry: Entry | None, methods: Iterable[MethodPlan]) -> None:
    """Refuse a shared pre-training option that no method reads, and so would change nothing."""
    named = [PretrainOptions(data=NOWHERE, out=NOWHERE, **m.pretrain).method for m in methods if m.pretrain is not None]
    read = {name for method in named for name in METHODS[method].reads}
    for name, value in ({} if entry is None else entry.mapping()).items():
        if name in OF_SOME_METHODS and name not in read:
            raise value.error("means nothing to any of the plan's methods", "take it out")


def _some(entry: Entry) -> dict[str, Entry]:
    entries = entry.mapping()
    if not entries:
        raise entry.error("is empty", "name at least one")
    return entries


def _chosen(entry: Entry, names: Iterable[str], what: str) -> str:
    name, names = str(entry.as_type(str)), list(names)
    if name not in names:
        raise entry.error(f"there is no {what} {name!r}", f"choose one of: {', '.join(names)}")
    return name


def _distinct(values: list[tuple[Entry, Name]]) -> tuple[Name, ...]:
    seen: list[Name] = []
    for entry, value in values:
        if value in seen:
            raise entry.error(f"{value} stands here twice", "name each once")
        seen.append(value)
    return tuple(seen)


def _read_backbones(entry: Entry) -> tuple[str, ...]:
    return _distinct([(one, _chosen(one, BACKBONES, "backbone")) for one in entry.items()])


def _read_budgets(entry: Entry) -> dict[str, Entry]:
    budgets = [(one, _read_budget(one)) for one in entry.items()]
    _distinct(budgets)
    return {text: one for one, text in budgets}


def _read_budget(entry: Entry) -> str:
    return str(_checked(entry, Budget.parse, entry.as_type(str)))


def _checked(entry: Entry, parse: Callable[[Any], Any], value: Any) -> Any:
    """What `parse` makes of the value; its complaint names the entry's line."""
    try:
        return parse(value)
    except OptionError as error:
        raise entry.error(re.sub(r"^--\w+ ", "", error.problem), error.cure.replace("--target ", "")) from None


def _read_numbers(entry: Entry) -> tuple[int, ...]:
    numbers = [(one, int(one.as_type(int))) for one in entry.items()]
    for one, number in numbers:
        if number < 0:
            raise one.error(f"{number} is below 0", "give 0, 1, 2, …")
    return _distinct(numbers)


def _read_data(name: str, entry: Entry, *more: str) -> DataPlan:
    """A data set.

    Args:
        name: its name.
        entry: the mapping.
        more: keys that the caller reads itself.
    """
    keys = [f.name for f in fields(PrepareOptions) if f.name not in NOT_IN_PLANS[PrepareOptions]]
    given = {key: e for key, e in entry.known(*more, *PHANTOM_KEYS, *keys).items() if key not in more}
    hints = get_type_hints(PrepareOptions)
    values = {key: _existing(e, e.as_type(hints[key])) for key, e in given.items() if key in hints}
    if "target" in given:
        _checked(given["target"], parse_targets, values["target"])
    if "phantoms" in given:
        if "images" in given or "labels" in given:
            raise given["phantoms"].error("stands beside images or labels", "give one or the other")
        count, grid = given["phantoms"].as_type(int), DataPlan.grid
        if count < 3:
            raise given["phantoms"].error(f"{count} patients cannot be split in three", "give 3 or more")
        if "grid" in given:
            grid = given["grid"].as_type(tuple[int, int, int])
            if min(grid) < 16:
                raise given["grid"].error(f"{list(grid)}: a phantom that small shows no organs", "give [64, 64, 24]")
        values = {"target": [f"liver={LABELS['liver']}"], **values, "images": NOWHERE, "labels": NOWHERE}
        return DataPlan(name, _build(PrepareOptions, given, entry, **values), count, grid)
    if "grid" in given:
        raise given["grid"].error("is of use for phantoms only", "take it out")
    if "images" not in values:
        raise entry.error("names no images", "add images: FOLDER, or phantoms: NUMBER to have some made")
    return DataPlan(name, _build(PrepareOptions, given, entry, **values))


def _existing(entry: Entry, value: Any) -> Any:
    if isinstance(value, Path) and not value.exists():
        raise entry.error(f"{value} does not exist", "correct the path")
    return value


def _add_own_data(name: str, entry: Entry, data: dict[str, DataPlan]) -> None:
    """A test set may bring its scans along: they become a data set of its name."""
    given = entry.mapping()
    if "data" in given:
        if extra := [e for key, e in given.items() if key not in TEST_KEYS]:
            raise extra[0].error("is unknown beside data:", f"known are: {', '.join(TEST_KEYS)}")
        return
    if name in data:
        raise entry.error("names no data, and a data set has its name already", f"add data: {name}, or rename it")
    data[name] = _read_data(name, entry, *TEST_KEYS)


def _read_test(name: str, entry: Entry, data: Mapping[str, DataPlan], train: str) -> TestPlan:
    given = entry.mapping()
    source = _chosen(given["data"], data, "data set") if "data" in given else name
    wanted, there = data[source].organs, data[train].organs
    if not wanted:
        raise entry.error("its data set names no target", "add target: [name=value]")
    if unknown := [organ for organ in wanted if organ not in there]:
        raise entry.error(
            f"its target {unknown[0]!r} is none of the training set's ({', '.join(there)})",
            "call the same organ alike in both data sets",
        )
    patients = "test" if source == train else "all"
    if "patients" in given:
        patients = _chosen(given["patients"], ["test", "all"], "choice")
    return TestPlan(
        name=name,
        data=source,
        patients=patients,
        in_domain=given["in_domain"].as_type(bool) if "in_domain" in given else source == train,
        millimetres=given["millimetres"].as_type(bool) if "millimetres" in given else True,
        entry=entry,
    )


def _read_method(
    name: str,
    entry: Entry,
    shared: Mapping[str, Values],
    data: Mapping[str, DataPlan],
    train: str,
    backbones: tuple[str, ...],
) -> MethodPlan:
    given = entry.known("note", "pretrain", "finetune", "transductive", "backbones")
    mine = _read_backbones(given["backbones"]) if "backbones" in given else backbones
    if foreign := [backbone for backbone in mine if backbone not in backbones]:
        raise given["backbones"].error(
            f"{foreign[0]} is not among the plan's backbones", f"choose of: {', '.join(backbones)}"
        )
    pretrain, source = None, train
    if "pretrain" in given:
        pretrain = _read_values(PretrainOptions, given["pretrain"], shared["pretrain"], "data")
        if "data" in (options := given["pretrain"].mapping()):
            source = _chosen(options["data"], data, "data set")
            if data[source].intensity != data[train].intensity:
                raise options["data"].error(
                    f"{source} is scaled by {data[source].intensity}, {train} by {data[train].intensity}",
                    "give both the same modality and window (or percentiles)",
                )
    transductive = given["transductive"].as_type(bool) if "transductive" in given else False
    if transductive and pretrain is None:
        raise given["transductive"].error("without pretrain: nothing sees test scans before the test", "take it out")
    if pretrain is not None:
        _check_pretraining(given, pretrain, transductive)
    finetune = _read_values(FinetuneOptions, given.get("finetune"), shared["finetune"])
    if pretrain is not None and finetune.get("weights") is not None:
        raise entry.error("starts from a pre-training and from weights", "give one, or give the weights to pretrain:")
    note = given["note"].as_type(str) if "note" in given else _note(pretrain, source, finetune, transductive)
    method = MethodPlan(name, pretrain, source, finetune, transductive, mine, note, entry)
    for backbone in mine:
        _check_norms(method, backbone)
        published = any((values or {}).get("weights") for values in (pretrain, finetune))
        if published and BACKBONES[backbone].load_published is None:
            raise entry.error(f"nobody published weights for {backbone}", "limit the method by backbones: […]")
    return method


def _check_pretraining(given: Mapping[str, Entry], pretrain: Values, transductive: bool) -> None:
    options = PretrainOptions(data=NOWHERE, out=NOWHERE, **pretrain)
    try:
        check_options(options)
    except OptionError as error:
        raise _where(given["pretrain"].mapping(), given["pretrain"], error) from None
    if transductive and METHODS[options.method].annotation != "none":
        raise given["transductive"].error(
            f"{options.method} learns from labels that are made of masks, here those of test patients",
            "take it out, or pre-train by a method that needs no labels",
        )


def _check_norms(method: MethodPlan, backbone: str) -> None:
    try:
        before, after = method.norms(backbone)
    except OptionError as error:
        raise method.entry.error(error.problem.replace("--", ""), error.cure) from None
    if before != after and (before, after) != ("instance", "instance_affine"):  # which starts as the identity
        raise method.entry.error(
            f"its encoder is pre-trained with norm {before} and fine-tuned with norm {after}",
            "leave out the norm of pretrain: it is then that of the fine-tuning",
        )


def _note(pretrain: Values | None, source: str, finetune: Values, transductive: bool) -> str:
    options = FinetuneOptions(data=NOWHERE, out=NOWHERE, **finetune)
    begun = "from scratch"
    if pretrain is not None:
        method = PretrainOptions(data=NOWHERE, out=NOWHERE, **pretrain).method
        seen = "every scan, test patients' too" if transductive else "the training patients' scans"
        begun = f"pre-trained by {method} on {seen} of {source}"
    elif options.weights is not None:
        begun = f"from the published weights {options.weights.name}"
    semi = "" if options.semi in (None, "none") else f", unlabelled slices used by {options.semi}"
    return f"{begun}; fine-tuned with the {options.preset} preset{semi}"


def _read_values(kind: type[Any], entry: Entry | None, shared: Values, *more: str) -> dict[str, Any]:
    """A command's options as the plan gives them, on top of the `shared` ones.

    Args:
        kind: the command's options.
        entry: the mapping, or None.
        shared: what all methods share.
        more: keys that the caller reads itself.
    """
    given = {} if entry is None else {key: e for key, e in entry.mapping().items() if key not in more}
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind) if f.name not in NOT_IN_PLANS[kind]]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in NOT_IN_PLANS[kind]:
            raise value.error("is set by the study", f"take it out{'; ' + INSTEAD[key] if key in INSTEAD else ''}")
        if key not in known:
            raise value.error("is unknown here", f"known are: {', '.join([*more, *known])}")
        values[key] = _existing(value, value.as_type(hints[key]))
    length = {"steps", "epochs"}
    if length & values.keys():  # a method's own length takes the place of the shared one
        shared = {key: value for key, value in shared.items() if key not in length}
    merged = {**_of_use(kind, shared, values), **values}
    if entry is not None:
        _build(kind, given, entry, data=NOWHERE, **merged)
    return merged


def _of_use(kind: type[Any], shared: Values, values: Values) -> Values:
    """The shared options without those that this pre-training method does not read."""
    if kind is not PretrainOptions:
        return shared
    named = {key: v for key, v in {**shared, **values}.items() if key == "method"}
    reads = METHODS[PretrainOptions(data=NOWHERE, out=NOWHERE, **named).method].reads
    return {key: value for key, value in shared.items() if key in reads or key not in OF_SOME_METHODS}


def _build(kind: type[Any], given: Mapping[str, Entry], entry: Entry, **values: Any) -> Any:
    """The command's options; what is wrong with their values is told with the line it stands on."""
    try:
        return kind(out=NOWHERE, **values)
    except FrugalsegError as error:
        raise _where(given, entry, error) from None


def _where(given: Mapping[str, Entry], entry: Entry, error: FrugalsegError) -> OptionError:
    """The error with the line of the option it names, or else of the entry."""
    named = [e for key, e in given.items() if f"--{key.replace('_', '-')}" in error.problem]
    return (named or [entry])[0].error(error.problem.replace("--", ""), error.cure.replace("--", ""))
