"""What the methods of a plan have in common, whatever they are: their note, backbones and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frugalseg.dataset.budget import Budget
from frugalseg.models.registry import BACKBONES
from frugalseg.studies.plan.data import DataPlan, TestPlan
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.values import checked, chosen, distinct
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class Shared:
    """What a plan says outside its methods.

    Attributes:
        values: "pretrain" and the key of each training → options that all methods share.
        data: the data sets.
        train: the one that is fine-tuned on.
        pretrain_data: the one that is pre-trained on.
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


def own_note(given: Mapping[str, YamlValue], otherwise: str) -> str:
    """What a method is, as the plan says it, or else as its options tell."""
    return str(given["note"].as_type(str)) if "note" in given else otherwise


def read_backbones(entry: YamlValue) -> tuple[str, ...]:
    """A list of backbones."""
    return distinct([(one, chosen(one, BACKBONES, "backbone")) for one in entry.items()])


def own_backbones(given: Mapping[str, YamlValue], known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the plan's backbones that a method is run with."""
    mine = read_backbones(given["backbones"]) if "backbones" in given else known
    if foreign := [backbone for backbone in mine if backbone not in known]:
        raise given["backbones"].error(
            f"{foreign[0]} is not among the plan's backbones", f"choose of: {', '.join(known)}"
        )
    return mine


def read_budgets(entry: YamlValue) -> dict[str, YamlValue]:
    """A list of budgets, 0 among them: budget → where it stands."""
    budgets = [(one, _read_budget(one)) for one in entry.items()]
    distinct(budgets)
    return {text: one for one, text in budgets}


def own_budgets(given: Mapping[str, YamlValue], known: tuple[str, ...], trained: bool) -> tuple[str, ...]:
    """Those of the known budgets that a method stands at, in their order: all, or those it names.

    What is trained from masks does not stand at a budget of none.
    """
    usable = tuple(budget for budget in known if has_labels(budget) or not trained)
    if "budgets" not in given:
        return usable
    named = read_budgets(given["budgets"])
    for budget, entry in named.items():
        if budget not in known:
            raise entry.error(f"{budget} is none of its budgets", f"choose of: {', '.join(usable)}")
        if budget not in usable:
            raise entry.error(f"it trains from masks, and {budget} are none", f"choose of: {', '.join(usable)}")
    return tuple(budget for budget in known if budget in named)


def _read_budget(entry: YamlValue) -> str:
    return str(checked(entry, lambda text: Budget.parse(text, none=True), entry.as_type(str)))


def has_labels(budget: str) -> bool:
    """Whether a plan's budget holds any masks."""
    return Budget.parse(budget, none=True).amount > 0
