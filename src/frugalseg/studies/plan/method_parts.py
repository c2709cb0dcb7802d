"""The keys that all methods of a plan share: note, backbones and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frugalseg.dataset.budget import Budget
from frugalseg.models.registry import BACKBONES
from frugalseg.studies.plan.data import DataPlan, TestPlan
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.values import parse_value, read_choice, require_distinct
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.weights.catalogue import CATALOGUE
from frugalseg.weights.folder import find_installed, installed_path


@dataclass(frozen=True)
class SharedSettings:
    """The settings of a plan outside its methods.

    Attributes:
        values: "pretrain" and the key of each training → options that all methods share.
        data: the data sets.
        train: the data set for fine-tuning.
        pretrain_data: the data set for pre-training.
        tests: the test sets.
        backbones, budgets: of the plan.
    """

    values: Mapping[str, Values]
    data: Mapping[str, DataPlan]
    train: str
    pretrain_data: str
    tests: tuple[TestPlan, ...]
    backbones: tuple[str, ...]
    budgets: tuple[str, ...]


def read_note(given: Mapping[str, YamlValue], default: str) -> str:
    """The note of a method, or the default."""
    return str(given["note"].as_type(str)) if "note" in given else default


def read_backbones(entry: YamlValue) -> tuple[str, ...]:
    """A list of backbones; those that are not in the registry are frozen encoders, whose weights must be installed."""
    known = list(dict.fromkeys([*BACKBONES, *CATALOGUE, *find_installed()]))
    named = require_distinct([(one, read_choice(one, known, "backbone")) for one in entry.read_list()])
    for one in entry.read_list():
        if one.as_type(str) not in BACKBONES:
            parse_value(one, installed_path, one.as_type(str))
    return named


def read_own_backbones(given: Mapping[str, YamlValue], known: tuple[str, ...]) -> tuple[str, ...]:
    """The backbones that a method is run with: all of the plan's, or those that it names."""
    own = read_backbones(given["backbones"]) if "backbones" in given else known
    if unknown := [backbone for backbone in own if backbone not in known]:
        raise given["backbones"].error(
            f"{unknown[0]} is not among the plan's backbones", f"choose from: {', '.join(known)}"
        )
    return own


def read_budgets(entry: YamlValue) -> dict[str, YamlValue]:
    """A list of budgets, 0 allowed: budget → its place in the plan."""
    budgets = [(one, _read_budget(one)) for one in entry.read_list()]
    require_distinct(budgets)
    return {text: one for one, text in budgets}


def read_own_budgets(given: Mapping[str, YamlValue], known: tuple[str, ...], trained: bool) -> tuple[str, ...]:
    """The budgets at which a method is run, in the plan's order: all of the known ones, or those that it names.

    A method that is trained from masks is not run at budget 0.
    """
    usable = tuple(budget for budget in known if has_labels(budget) or not trained)
    if "budgets" not in given:
        return usable
    named = read_budgets(given["budgets"])
    for budget, entry in named.items():
        if budget not in known:
            raise entry.error(f"{budget} is not among its budgets", f"choose from: {', '.join(usable)}")
        if budget not in usable:
            raise entry.error(
                f"the method trains from masks, but {budget} is a budget of none", f"choose from: {', '.join(usable)}"
            )
    return tuple(budget for budget in known if budget in named)


def _read_budget(entry: YamlValue) -> str:
    return str(parse_value(entry, lambda text: Budget.parse(text, none=True), entry.as_type(str)))


def has_labels(budget: str) -> bool:
    """Whether a budget contains any masks."""
    return Budget.parse(budget, none=True).amount > 0
