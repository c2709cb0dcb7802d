"""How many labels a training may use, and which: nested draws by patient."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from frugalseg.dataset.slice_choice import BudgetUnit, SliceChoice, SlicePool, choose_random
from frugalseg.errors import OptionError, SplitError
from frugalseg.text import pluralize

_BUDGET_PATTERN = re.compile(r"(?P<amount>\d+(\.\d+)?)\s*(?P<unit>%|scans?|slices?)")


@dataclass(frozen=True)
class Budget:
    """An amount of annotation: a percentage of the labelled training patients, or a number of scans or slices."""

    amount: float
    unit: BudgetUnit

    @classmethod
    def parse(cls, text: str, none: bool = False) -> Budget:
        """Read "5%", "3 scans" or "50 slices"; raises `OptionError` on anything else.

        Args:
            text: the value of `--budget`.
            none: whether 0 is allowed, for methods that train without masks.
        """
        match = _BUDGET_PATTERN.fullmatch(text.strip())
        if match is None or (float(match["amount"]) == 0 and not none):
            raise OptionError(
                f"--budget {text!r} is not a label budget", 'write for example "5%", "3 scans" or "50 slices"'
            )
        amount = float(match["amount"])
        unit = cast(BudgetUnit, match["unit"] if match["unit"] == "%" else match["unit"].rstrip("s") + "s")
        if unit == "%" and amount > 100:
            raise OptionError(f"--budget {text!r} is above 100%", "give at most 100%")
        if unit != "%" and amount != int(amount):
            raise OptionError(
                f"--budget {text!r}: the number of {unit} must be an integer",
                f'give for example "{math.ceil(amount)} {unit}"',
            )
        return cls(amount, unit)

    @property
    def in_words(self) -> str:
        """The budget for messages, such as 1 scan; `str` always uses the plural, so equal budgets have one text."""
        return str(self).removesuffix("s") if self.amount == 1 else str(self)

    def __str__(self) -> str:
        return f"{self.amount:g}%" if self.unit == "%" else f"{self.amount:g} {self.unit}"


def draw_labels(
    slices: pd.DataFrame,
    patients: Iterable[str],
    budget: Budget,
    draw: int,
    organs: list[str],
    choose: SliceChoice = choose_random,
) -> npt.NDArray[np.int64]:
    """Rows of `slices` whose labels may be used.

    A draw puts the patients, and the slices of each, in random order; a budget takes the first ones. The budgets of
    one draw are therefore nested: 5% is contained in 10%, 5 slices in 50. Which slices a budget of slices takes first
    is the rule `choose`.

    Args:
        slices: the index of the store, one row per slice, with `case`, `patient`, `labelled` and a column per organ.
        patients: the training patients.
        budget: the amount.
        draw: number of the random draw.
        organs: names of the organ columns.
        choose: which slices a budget of slices takes (see `dataset.slice_choice`).

    Raises:
        SplitError: the budget exceeds the labels of the training patients; the message says where the others are.
    """
    labelled = slices[slices["labelled"]]
    table = labelled[labelled["patient"].isin(list(patients))]
    held_out = int(labelled["case"].nunique() - table["case"].nunique())
    names = sorted(table["patient"].unique())
    if not names:
        raise SplitError("no training patient has labels", "add labels, or change the split")
    rng = np.random.default_rng([draw, 1])
    order = [names[i] for i in rng.permutation(len(names))]
    if budget.unit == "slices":
        return _draw_slices(SlicePool(table, order, organs, rng), budget, choose, held_out)

    if budget.unit == "%":
        taken = order[: max(1, round(len(order) * budget.amount / 100))]
        return _selected_rows(table["patient"].isin(taken))
    scans = [case for patient in order for case in sorted(table.loc[table["patient"] == patient, "case"].unique())]
    _check_enough(budget, len(scans), "labelled training scans", held_out)
    return _selected_rows(table["case"].isin(scans[: int(budget.amount)]))


def find_budget_showing(
    slices: pd.DataFrame,
    patients: Iterable[str],
    unit: BudgetUnit,
    draw: int,
    organs: list[str],
    wanted: Sequence[str],
    least: int = 1,
    choose: SliceChoice = choose_random,
) -> Budget | None:
    """The smallest budget of one unit and draw with enough slices that show an organ; None if all labels have too few.

    Since the budgets of a draw are nested, it is found by bisection. Percentages are whole numbers.

    Args:
        slices, patients, draw, organs, choose: as in `draw_labels`.
        unit: of the budget.
        wanted: columns of the organs of which a slice must show at least one.
        least: number of slices.
    """
    training = list(patients)

    def is_enough(amount: int) -> bool:
        rows = draw_labels(slices, training, Budget(amount, unit), draw, organs, choose)
        return int(slices.loc[rows, list(wanted)].any(axis=1).sum()) >= least

    labelled = slices[slices["labelled"] & slices["patient"].isin(training)]
    largest = {
        "%": 100,
        "scans": int(labelled["case"].nunique()),
        "slices": int(labelled[organs].any(axis=1).sum()),
    }[unit]
    amount = 1 + bisect_left(range(1, largest + 1), True, key=is_enough)
    return Budget(amount, unit) if amount <= largest else None


def _draw_slices(pool: SlicePool, budget: Budget, choose: SliceChoice, held_out: int) -> npt.NDArray[np.int64]:
    ranked = choose(pool)
    _check_enough(budget, len(ranked), "labelled training slices that show a target", held_out)
    return np.sort(ranked[: int(budget.amount)])


def _check_enough(budget: Budget, available: int, what: str, held_out: int) -> None:
    if budget.amount <= available:
        return
    problem, cure = f"--budget {str(budget)!r}: there are only {available} {what}", f"give at most {available}"
    if held_out:
        problem += f"; the split uses {pluralize(held_out, 'other labelled scan')} for validation and test"
        cure += ", label more scans, or hold out fewer: prepare with --fractions 0.15 0 (no test), or give a --split"
    raise SplitError(problem, cure)


def _selected_rows(chosen: pd.Series[Any]) -> npt.NDArray[np.int64]:
    return chosen.index[chosen.to_numpy()].to_numpy(dtype=np.int64)
