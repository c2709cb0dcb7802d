"""Reading a plan: all of it is checked before anything runs.

Every value is checked by the dataclasses that the commands take, so a plan never holds what a command would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from frugalseg.contrast.methods import METHODS, OF_SOME_METHODS, check_options, reads_superpixels
from frugalseg.dataset.budget import Budget
from frugalseg.dataset.targets import parse_targets
from frugalseg.demo.phantom import LABELS
from frugalseg.engine.device import check_name
from frugalseg.engine.words import counted
from frugalseg.errors import FrugalsegError, OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.options import FinetuneOptions, PrepareOptions, PretrainOptions
from frugalseg.segment.presets import chosen_preset
from frugalseg.study.lines import Entry, read_lines, without_flags
from frugalseg.study.plan import NOT_IN_PLANS, NOWHERE, DataPlan, MethodPlan, Plan, TestPlan, Values

NEEDED = ("data", "train", "tests", "methods", "budgets")
OPTIONAL = ("name", "description", "pretrain", "finetune", "backbones", "draws", "seeds", "baseline")
STUDIES = "studies"
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


def read_plan(path: Path, study: str | None = None) -> Plan:
    """Read and check a plan; relative paths in it are taken from its folder.

    Args:
        path: the file.
        study: of a file that holds several, which one is meant. The others are not looked at.

    Raises:
        OptionError: naming the file and the line: an unknown key, data set, method, backbone, preset or budget, a
            value of a wrong type or out of its range, a path that is not there.
    """
    whole = read_lines(path.resolve())
    top = _chosen_study(whole, study)
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
        "pretrain": _read_values(PretrainOptions, top.get("pretrain"), {}, "data"),
        "finetune": _read_values(FinetuneOptions, top.get("finetune"), {}),
    }
    source = _read_source(top.get("pretrain"), train, data, train)
    methods = tuple(
        _read_method(name, entry, shared, data, train, source, backbones)
        for name, entry in _some(top["methods"]).items()
    )
    _check_shared(top.get("pretrain"), methods)
    names = [method.name for method in methods]
    budgets = _read_budgets(top["budgets"])
    return Plan(
        name=" ".join([top["name"].as_type(str) if "name" in top else path.stem, *([study] if study else [])]),
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


def _chosen_study(whole: Entry, study: str | None) -> dict[str, Entry]:
    """The keys of a plan: those of the file, and in their place those of one of its `studies`."""
    top = whole.known(*NEEDED, *OPTIONAL, STUDIES)
    if STUDIES not in top:
        if study is not None:
            raise whole.error(f"holds one study, and not one called {study!r}", "leave out --study")
        return top
    studies = _some(top.pop(STUDIES))
    if study is None:
        raise whole.error(f"holds several studies: {', '.join(studies)}", f"add --study {next(iter(studies))}, say")
    if study not in studies:
        raise whole.error(f"holds no study {study!r}", f"choose one of: {', '.join(studies)}")
    return {**top, **studies[study].known(*NEEDED, *OPTIONAL)}


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
            raise given["phantoms"].error(f"{counted(count, 'patient')} cannot be split in three", "give 3 or more")
        if "grid" in given:
            grid = given["grid"].as_type(tuple[int, int, int])
            if min(grid) < 16:
                raise given["grid"].error(f"{list(grid)}: a phantom that small shows no organs", "give [64, 64, 24]")
        values = {"target": [f"liver={LABELS['liver']}"], **values, "images": NOWHERE, "labels": NOWHERE}
        return DataPlan(name, _build(PrepareOptions, given, entry, **values), entry, count, grid)
    if "grid" in given:
        raise given["grid"].error("is of use for phantoms only", "take it out")
    if "images" not in values:
        raise entry.error("names no images", "add images: FOLDER, or phantoms: NUMBER to have some made")
    return DataPlan(name, _build(PrepareOptions, given, entry, **values), entry)


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
    source: str,
    backbones: tuple[str, ...],
) -> MethodPlan:
    given = entry.known("note", "pretrain", "finetune", "transductive", "backbones")
    mine = _read_backbones(given["backbones"]) if "backbones" in given else backbones
    if foreign := [backbone for backbone in mine if backbone not in backbones]:
        raise given["backbones"].error(
            f"{foreign[0]} is not among the plan's backbones", f"choose of: {', '.join(backbones)}"
        )
    pretrain = None
    if "pretrain" in given:
        pretrain = _read_values(PretrainOptions, given["pretrain"], shared["pretrain"], "data")
        source = _read_source(given["pretrain"], source, data, train)
    transductive = given["transductive"].as_type(bool) if "transductive" in given else False
    if transductive and pretrain is None:
        raise given["transductive"].error("without pretrain: nothing sees test scans before the test", "take it out")
    if pretrain is not None:
        _check_pretraining(given, pretrain, transductive, data[source])
    finetune = _read_values(FinetuneOptions, given.get("finetune"), shared["finetune"])
    _check_finetuning(given.get("finetune"), entry, finetune, pretrain)
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


def _read_source(pretrain: Entry | None, usual: str, data: Mapping[str, DataPlan], train: str) -> str:
    """The data set that is pre-trained on: what stands under `pretrain: data`, or the usual one."""
    given = {} if pretrain is None else pretrain.mapping()
    if "data" not in given:
        return usual
    source = _chosen(given["data"], data, "data set")
    if data[source].intensity != data[train].intensity:
        raise given["data"].error(
            f"{source} is scaled by {data[source].intensity}, {train} by {data[train].intensity}",
            "give both the same modality and window (or percentiles)",
        )
    return source


def _check_pretraining(given: Mapping[str, Entry], pretrain: Values, transductive: bool, source: DataPlan) -> None:
    options = PretrainOptions(data=NOWHERE, out=NOWHERE, **pretrain)
    if reads_superpixels(options) and not source.options.superpixels:
        raise given["pretrain"].error(
            f"{options.method} learns from superpixels, and {source.name} has none",
            f"add superpixels: true to data.{source.name}",
        )
    try:
        check_options(options)
    except OptionError as error:
        raise _where(given["pretrain"].mapping(), given["pretrain"], error) from None
    if transductive and METHODS[options.method].annotation != "none":
        raise given["transductive"].error(
            f"{options.method} learns from labels that are made of masks, here those of test patients",
            "take it out, or pre-train by a method that needs no labels",
        )


def _check_finetuning(given: Entry | None, entry: Entry, finetune: Values, pretrain: Values | None) -> None:
    """What `finetune` would only find when the job runs; `given` are the method's own options, `entry` the method."""
    encoder = None if pretrain is None else {"context": pretrain.get("context") or 0}
    try:
        chosen_preset(FinetuneOptions(data=NOWHERE, out=NOWHERE, **finetune), encoder)
    except OptionError as error:
        raise _where({} if given is None else given.mapping(), entry, error) from None


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
        if key == "device":  # whether it is there is another question, and maybe another machine's
            _checked(value, check_name, values[key])
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
    flags = {f"--{key.replace('_', '-')}": e for key, e in given.items()}
    flag = next((flag for flag in flags if flag in error.problem), None)
    problem = error.problem
    if flag is not None and problem.count("--") == 1:
        problem = problem.removeprefix(f"{flag} ")  # the entry's key says it
    return flags.get(flag or "", entry).error(without_flags(problem), without_flags(error.cure))
