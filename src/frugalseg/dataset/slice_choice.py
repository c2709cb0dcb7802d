"""Which slices a budget of slices consists of: random ones, or ones chosen by a rule.

Each rule puts the labelled slices of the training patients in order, and a budget takes the first ones, so larger
budgets contain smaller ones. All but `random-all` choose among slices that show a target, as a person does who is asked
to outline it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from frugalseg.dataset.coverage import choose_representatives, take_spread, take_turns, thin_out
from frugalseg.dataset.descriptors import describe_slices
from frugalseg.dataset.shards import StoredArray
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError
from frugalseg.options import Choose

Rows = npt.NDArray[np.int64]
BudgetUnit = Literal["%", "scans", "slices"]

MOST_CANDIDATES = 6000
"""Slices among which representatives are chosen: their distances fit into 150 MB."""


@dataclass(frozen=True)
class SlicePool:
    """The slices that a budget is taken from.

    Attributes:
        table: the labelled slices of the training patients, rows of `SliceStore.slices`.
        patients: the training patients, in the random order of the draw.
        organs: columns of the organs.
        rng: random numbers of the draw.
    """

    table: pd.DataFrame
    patients: Sequence[str]
    organs: Sequence[str]
    rng: np.random.Generator

    @property
    def showing(self) -> pd.DataFrame:
        """The slices that show an organ."""
        return self.table[self.table[list(self.organs)].any(axis=1)]

    def queues(self, table: pd.DataFrame) -> list[Rows]:
        """For each patient in turn, the rows of `table`, scan by scan from bottom to top."""
        patient = table["patient"].to_numpy()
        # Copies, because NumPy cannot permute an empty array that is read-only.
        return [table.index[patient == name].to_numpy(np.int64, copy=True) for name in self.patients]


SliceChoice = Callable[[SlicePool], Rows]
"""All slices that may be taken, in the order in which budgets take them."""


def choose_random(pool: SlicePool) -> Rows:
    """Slices that show an organ, one from each patient in turn, in random order (SAM-Mix, too, draws its 5, 50 and 100
    slices from positive ones)."""
    return take_turns([pool.rng.permutation(queue) for queue in pool.queues(pool.showing)])


def choose_random_of_all(pool: SlicePool) -> Rows:
    """As `choose_random`, from all slices: those without an organ count as annotation, too."""
    return take_turns([pool.rng.permutation(queue) for queue in pool.queues(pool.table)])


def choose_middle(pool: SlicePool) -> Rows:
    """One slice from each patient in turn, from the middle of those that show an organ outwards."""
    return take_turns(
        [queue[np.argsort(_from_middle(len(queue)), kind="stable")] for queue in pool.queues(pool.showing)]
    )


def _from_middle(count: int) -> npt.NDArray[np.float64]:
    distance: npt.NDArray[np.float64] = np.abs(np.arange(count) - (count - 1) / 2)
    return distance


def choose_interval(pool: SlicePool) -> Rows:
    """One slice from each patient in turn, at even intervals of the organ's extent over all patients together: the
    first in the middle of it, the next at a quarter, three quarters, an eighth …"""
    queues = pool.queues(pool.showing)
    return take_turns([take_spread(queue, first, len(queues)) for first, queue in enumerate(queues)])


@dataclass(frozen=True)
class ChooseRepresentatives:
    """The rule `alike` of `frugalseg suggest` among the slices that show an organ: those that look like many
    others, see `dataset.coverage`. The same for every draw.

    The command looks at images only, organs or not, and so suggests slices without the organ too. Taking the nearest
    slice that shows it instead means the ends of a small organ, such as the spleen, and these teach little.

    Attributes:
        images: (N, S, S) of the store.
    """

    images: StoredArray

    def __call__(self, pool: SlicePool) -> Rows:
        """See `SliceChoice`."""
        rows = pool.showing.index.to_numpy(np.int64)
        candidates = rows[thin_out(len(rows), MOST_CANDIDATES)]
        picks = choose_representatives(describe_slices(self.images, candidates), len(candidates))
        chosen = candidates[[pick.index for pick in picks]]
        return np.concatenate([chosen, np.setdiff1d(rows, chosen)])


RULES: dict[Choose, Callable[[SliceStore], SliceChoice]] = {
    "random": lambda store: choose_random,
    "random-all": lambda store: choose_random_of_all,
    "interval": lambda store: choose_interval,
    "middle": lambda store: choose_middle,
    "suggest": lambda store: ChooseRepresentatives(store.images),
}
"""Value of --choose → the rule, for the slices of a store."""


def find_rule(choose: Choose, unit: BudgetUnit, store: SliceStore) -> SliceChoice:
    """The rule of `--choose` for a budget of this unit; raises `OptionError` unless it is one of slices, or random."""
    if choose != "random" and unit != "slices":
        raise OptionError(
            f"--choose {choose} applies to budgets of slices, this budget is one of {unit}",
            'give for example --budget "5 slices", or leave out --choose',
        )
    return RULES[choose](store)
