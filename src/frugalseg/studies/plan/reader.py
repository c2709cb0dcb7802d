"""Reading a plan; all of it is checked before anything runs.

Every value is checked by the option dataclasses of the commands, so a valid plan holds no option that a command would
refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints

from frugalseg.dataset.targets import parse_targets
from frugalseg.options import PrepareOptions
from frugalseg.phantoms.cohort import LABELS
from frugalseg.studies.plan.data import DataPlan, TestPlan
from frugalseg.studies.plan.method_parts import SharedSettings, read_backbones, read_budgets
from frugalseg.studies.plan.methods import read_methods
from frugalseg.studies.plan.options import PREPARE, PRETRAIN, UNKNOWN_PATH
from frugalseg.studies.plan.plan import StudyPlan
from frugalseg.studies.plan.pretraining import check_shared_options, read_pretraining_data
from frugalseg.studies.plan.values import (
    build_options,
    parse_value,
    read_choice,
    read_entries,
    read_values,
    require_distinct,
    require_existing,
)
from frugalseg.studies.plan.yaml_source import YamlValue, read_yaml
from frugalseg.studies.trainings.table import TRAININGS
from frugalseg.text import pluralize

REQUIRED_KEYS = ("data", "train", "tests", "methods", "budgets")
OPTIONAL_KEYS = ("name", "description", "pretrain", *TRAININGS, "backbones", "draws", "seeds", "baseline")
STUDIES = "studies"
PHANTOM_KEYS = ("phantoms", "grid")
TEST_KEYS = ("data", "patients", "in_domain", "millimetres")


def read_plan(path: Path, study: str | None = None) -> StudyPlan:
    """Read and check a plan; relative paths in it are relative to its folder.

    Args:
        path: the file.
        study: the study to read, where the file holds several; the others are not checked.

    Raises:
        OptionError: with file and line: an unknown key, data set, method, backbone, preset or budget, a value of the
            wrong type or out of range, or a path that does not exist.
    """
    whole = read_yaml(path.resolve())
    top = _select_study(whole, study)
    if missing := [name for name in REQUIRED_KEYS if name not in top]:
        raise whole.error(f"{missing[0]}: is missing", f"add it; a plan needs {', '.join(REQUIRED_KEYS)}")
    data = {name: _read_data(name, entry) for name, entry in read_entries(top["data"]).items()}
    train = read_choice(top["train"], data, "data set")
    if not data[train].organs:
        raise top["train"].error(f"{train} names no target", f"add target: [name=value] to data.{train}")
    for name, entry in read_entries(top["tests"]).items():
        _add_own_data(name, entry, data)
    backbones = read_backbones(top["backbones"]) if "backbones" in top else ("unet",)
    budgets = read_budgets(top["budgets"])
    tests = tuple(_read_test(name, entry, data, train) for name, entry in top["tests"].mapping().items())
    shared = SharedSettings(
        values={
            "pretrain": read_values(PRETRAIN, top.get("pretrain"), {}, "data"),
            **{key: read_values(training.OPTIONS, top.get(key), {}) for key, training in TRAININGS.items()},
        },
        data=data,
        train=train,
        pretrain_data=read_pretraining_data(top.get("pretrain"), train, data, train),
        tests=tests,
        backbones=backbones,
        budgets=tuple(budgets),
    )
    methods = read_methods(top["methods"], shared)
    check_shared_options(top.get("pretrain"), methods)
    names = [method.name for method in methods]
    for budget, entry in budgets.items():
        if not any(budget in method.budgets for method in methods):
            raise entry.error(f"no method is run at {budget}", "remove it, or add it to the budgets of a method")
    return StudyPlan(
        name=" ".join([top["name"].as_type(str) if "name" in top else path.stem, *([study] if study else [])]),
        description=top["description"].as_type(str).strip() if "description" in top else "",
        data=data,
        train=train,
        tests=tests,
        backbones=backbones,
        methods=methods,
        budgets=tuple(budgets),
        budget_entries=budgets,
        draws=_read_numbers(top["draws"]) if "draws" in top else (0,),
        seeds=_read_numbers(top["seeds"]) if "seeds" in top else (0,),
        baseline=read_choice(top["baseline"], names, "method") if "baseline" in top else names[0],
    )


def _select_study(whole: YamlValue, study: str | None) -> dict[str, YamlValue]:
    """The keys of a plan: those of the file, overridden by those of the selected one of its `studies`."""
    top = whole.check_keys(*REQUIRED_KEYS, *OPTIONAL_KEYS, STUDIES)
    if STUDIES not in top:
        if study is not None:
            raise whole.error(f"holds one study, and not one called {study!r}", "leave out --study")
        return top
    studies = read_entries(top.pop(STUDIES))
    if study is None:
        raise whole.error(
            f"holds several studies: {', '.join(studies)}", f"choose one, for example --study {next(iter(studies))}"
        )
    if study not in studies:
        raise whole.error(f"holds no study {study!r}", f"choose one of: {', '.join(studies)}")
    return {**top, **studies[study].check_keys(*REQUIRED_KEYS, *OPTIONAL_KEYS)}


def _read_numbers(entry: YamlValue) -> tuple[int, ...]:
    numbers = [(one, int(one.as_type(int))) for one in entry.read_list()]
    for one, number in numbers:
        if number < 0:
            raise one.error(f"{number} is below 0", "give 0, 1, 2, …")
    return require_distinct(numbers)


def _read_data(name: str, entry: YamlValue, *more: str) -> DataPlan:
    """A data set.

    Args:
        name: its name.
        entry: the mapping.
        more: keys that the caller reads itself.
    """
    given = {key: e for key, e in entry.check_keys(*more, *PHANTOM_KEYS, *PREPARE.in_plans).items() if key not in more}
    hints = get_type_hints(PrepareOptions)
    values = {key: require_existing(e, e.as_type(hints[key])) for key, e in given.items() if key in hints}
    if "target" in given:
        parse_value(given["target"], parse_targets, values["target"])
    if "phantoms" in given:
        if "images" in given or "labels" in given:
            raise given["phantoms"].error("is given with images or labels", "give one or the other")
        count, grid = given["phantoms"].as_type(int), DataPlan.grid
        if count < 3:
            raise given["phantoms"].error(
                f"{pluralize(count, 'patient')} cannot be split into training, validation and test", "give 3 or more"
            )
        if "grid" in given:
            grid = given["grid"].as_type(tuple[int, int, int])
            if min(grid) < 16:
                raise given["grid"].error(
                    f"{list(grid)}: a phantom of this size shows no organs", "give for example [64, 64, 24]"
                )
        values = {"target": [f"liver={LABELS['liver']}"], **values, "images": UNKNOWN_PATH, "labels": UNKNOWN_PATH}
        return DataPlan(name, build_options(PrepareOptions, given, entry, **values), entry, count, grid)
    if "grid" in given:
        raise given["grid"].error("applies to phantoms only", "remove it")
    if "images" not in values:
        raise entry.error("names no images", "add images: FOLDER, or phantoms: NUMBER to generate phantoms")
    return DataPlan(name, build_options(PrepareOptions, given, entry, **values), entry)


def _add_own_data(name: str, entry: YamlValue, data: dict[str, DataPlan]) -> None:
    """Add the data set of a test set that defines its own scans; it gets the test set's name."""
    given = entry.mapping()
    if "data" in given:
        if extra := [e for key, e in given.items() if key not in TEST_KEYS]:
            raise extra[0].error("is unknown beside data:", f"known are: {', '.join(TEST_KEYS)}")
        return
    if name in data:
        raise entry.error("names no data, and a data set has the same name", f"add data: {name}, or rename it")
    data[name] = _read_data(name, entry, *TEST_KEYS)


def _read_test(name: str, entry: YamlValue, data: Mapping[str, DataPlan], train: str) -> TestPlan:
    given = entry.mapping()
    source = read_choice(given["data"], data, "data set") if "data" in given else name
    organs, trained = data[source].organs, data[train].organs
    if not organs:
        raise entry.error("its data set names no target", "add target: [name=value]")
    if unknown := [organ for organ in organs if organ not in trained]:
        raise entry.error(
            f"its target {unknown[0]!r} is none of the training set's ({', '.join(trained)})",
            "use the same name for the organ in both data sets",
        )
    patients = "test" if source == train else "all"
    if "patients" in given:
        patients = read_choice(given["patients"], ["test", "all"], "choice")
    return TestPlan(
        name=name,
        data=source,
        patients=patients,
        in_domain=given["in_domain"].as_type(bool) if "in_domain" in given else source == train,
        millimetres=given["millimetres"].as_type(bool) if "millimetres" in given else True,
        entry=entry,
    )
