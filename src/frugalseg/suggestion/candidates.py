"""The slices that may be suggested, and those that are outlined already.

Only slices of training patients may be suggested for a model: outlines of validation and test patients would not
be learned from. No label is read; which slices of training scans show an organ is read from the index of the store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from frugalseg.dataset.coverage import thin_out
from frugalseg.dataset.slice_choice import MOST_CANDIDATES
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, StoreError
from frugalseg.records.split import Split
from frugalseg.text import name_some, pluralize

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Slices of a store.

    Attributes:
        store: the store.
        rows: slices that may be suggested, at most `MOST_CANDIDATES`, evenly spaced.
        outlined: outlined slices of training patients, at most as many.
        left, outlined_count: number of slices that may be suggested, and that are outlined, before thinning.
    """

    store: SliceStore
    rows: Rows
    outlined: Rows
    left: int
    outlined_count: int = 0

    @property
    def table(self) -> pd.DataFrame:
        """The slices that may be suggested: rows of `SliceStore.slices`."""
        return self.store.slices.loc[self.rows]


def find_candidates(store: SliceStore, split: Split, budget: int, partial: bool) -> Candidates:
    """The slices of the training patients that are not outlined.

    Args:
        store, split: the data.
        budget: number of slices wanted.
        partial: whether masks show single outlined slices, so that slices where they are empty are not outlined.

    Raises:
        StoreError: nothing is left to outline, or less than the budget.
    """
    slices = store.slices[store.slices["patient"].isin(split.train)]
    outlined = slices["labelled"]
    if partial:
        outlined = outlined & slices[store.presence_columns].any(axis=1)
    left = slices.index[~outlined].to_numpy(np.int64)
    _check_left(store, len(left), budget, partial)
    known = slices.index[outlined].to_numpy(np.int64)
    kept = left[thin_out(len(left), max(MOST_CANDIDATES, budget))]
    return Candidates(store, kept, known[thin_out(len(known), MOST_CANDIDATES)], len(left), len(known))


def _check_left(store: SliceStore, left: int, budget: int, partial: bool) -> None:
    if left == 0:
        raise StoreError(
            f"{store.folder}: nothing is left to outline, all slices of the training patients are labelled",
            "prepare a store that contains the scans without masks, too"
            if partial
            else "prepare a store that contains the scans without masks, too; or give --partial if the masks show "
            "single outlined slices",
        )
    if budget > left:
        raise OptionError(
            f"--budget {budget}: only {pluralize(left, 'slice')} of the training patients "
            f"{'is' if left == 1 else 'are'} not outlined",
            f"give at most {left}",
        )


def find_scan(store: SliceStore, case: str, budget: int) -> Candidates:
    """All slices of one scan, whatever its part of the split.

    Raises:
        OptionError: there is no such scan, or it has fewer slices than the budget.
    """
    rows = store.slices.index[store.slices["case"] == case].to_numpy(np.int64)
    if len(rows) == 0:
        known = store.slices["case"].unique()
        raise OptionError(f"--scan {case}: no such scan is in {store.folder}", f"choose of: {name_some(known)}")
    if budget > len(rows):
        raise OptionError(f"--budget {budget}: {case} has {pluralize(len(rows), 'slice')}", f"give at most {len(rows)}")
    return Candidates(store, rows, np.array([], np.int64), len(rows))
