"""Whether the labels of a budget can teach every organ; checked before the training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from frugalseg.dataset.budget import Budget, find_budget_showing
from frugalseg.dataset.slice_choice import BudgetUnit, SliceChoice, choose_random
from frugalseg.dataset.small_organs import find_small_organs
from frugalseg.dataset.store import SliceStore, presence_column
from frugalseg.errors import OptionError, SplitError
from frugalseg.text import join_words, pluralize


def check_propagation(propagate: str | None, unit: BudgetUnit) -> None:
    """Raise `OptionError` if outlined slices are to be propagated and the budget is not one of slices."""
    if propagate is not None and unit != "slices":
        raise OptionError(
            f"--propagate {propagate} applies to budgets of slices, this budget is one of {unit}: in a scan that is "
            "outlined as a whole there is nothing to propagate to",
            'give for example --budget "5 slices", or leave out --propagate',
        )


@dataclass(frozen=True)
class _Lack:
    """Too few labelled slices of an organ.

    Attributes:
        slices: how many there are.
        consequence: for the model.
        better: what a larger budget does.
        cure: what to do where no budget is large enough.
    """

    slices: str
    consequence: str
    better: str
    cure: str


LACKS = {
    0: _Lack(
        "no labelled slice",
        "so the model cannot learn {it}",
        "that shows {it}",
        "label {it} in a training patient, or prepare a store without {it}",
    ),
    1: _Lack(
        "only one labelled slice",
        "which is little to learn from",
        "that shows {it} in two slices",
        "label {it} in more slices",
    ),
}
"""Number of labelled slices that show an organ → why that is a problem."""


@dataclass(frozen=True)
class LabelDraw:
    """The slices that a training may use the masks of.

    Attributes:
        usable: the slices from which labels are drawn, a part of `store.slices`.
        patients: the training patients.
        budget, draw: label budget and label draw.
        labelled: (N,) rows of the slices drawn.
        choose: the rule by which a budget of slices takes them.
    """

    store: SliceStore
    usable: pd.DataFrame
    patients: tuple[str, ...]
    budget: Budget
    draw: int
    labelled: npt.NDArray[np.int64]
    choose: SliceChoice = choose_random

    def check_organs(self) -> None:
        """Warn of organs that no labelled slice shows, or only one, and of those that cover too few pixels.

        Raises:
            SplitError: no labelled slice shows any organ.
        """
        drawn = self.store.slices.loc[self.labelled]
        shown = {organ: int(drawn[presence_column(organ)].sum()) for organ in self.store.targets}
        if not any(shown.values()):
            raise self._no_organ_error()
        for count, lack in LACKS.items():
            organs = [organ for organ, slices in shown.items() if slices == count]
            if organs and len(drawn) > count:  # a budget of a single slice is a choice
                self._warn(organs, count + 1, lack)
        for small in find_small_organs(self.store.record, set(drawn["case"])):
            warnings.warn(small.describe(self.store.size), stacklevel=3)

    def _no_organ_error(self) -> SplitError:
        organs = list(self.store.targets)
        enough = self._find_budget(organs, 1)
        return SplitError(
            f"{self._options}: none of {pluralize(len(self.labelled), 'labelled slice')} shows "
            f"{join_words(organs, 'or')}",
            "put patients with labels of an organ into the training part of the split, or check --target of the store"
            if enough is None
            else f'give --budget "{enough.in_words}" or more, or another --label-draw',
        )

    def _warn(self, organs: Sequence[str], enough: int, lack: _Lack) -> None:
        budgets = {organ: self._find_budget([organ], enough) for organ in organs}
        larger = {organ: budget for organ, budget in budgets.items() if budget}
        if larger:
            named = join_words(list(larger), "or")
            said = _insert_pronoun(f"{lack.consequence} (the smallest budget of this draw {lack.better}: ", larger)
            warnings.warn(
                f"{self._options}: {lack.slices} shows {named}, {said}{_list_budgets(larger)})",
                stacklevel=4,
            )
        if never := [organ for organ in organs if organ not in larger]:
            warnings.warn(
                f"{lack.slices} of the training patients shows {join_words(never, 'or')}, "
                f"{_insert_pronoun(f'{lack.consequence}; {lack.cure}', never)}",
                stacklevel=4,
            )

    @property
    def _options(self) -> str:
        return f'--budget "{self.budget.in_words}", draw {self.draw}'

    def _find_budget(self, organs: Sequence[str], slices: int) -> Budget | None:
        """The smallest budget of this draw in which so many slices show one of the organs."""
        wanted = [presence_column(organ) for organ in organs]
        columns = self.store.presence_columns
        return find_budget_showing(
            self.usable, self.patients, self.budget.unit, self.draw, columns, wanted, slices, self.choose
        )


def _list_budgets(budgets: Mapping[str, Budget]) -> str:
    if len(budgets) == 1:
        return next(iter(budgets.values())).in_words
    return ", ".join(f"{budget.in_words} for {organ}" for organ, budget in budgets.items())


def _insert_pronoun(sentence: str, organs: Mapping[str, Budget] | Sequence[str]) -> str:
    return sentence.format(it="it" if len(organs) == 1 else "them")
