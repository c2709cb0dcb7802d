"""Which places of a grid are equivalent: what would be the same training again is one trial, done and counted once.

Draws that select the same labels (all of them at 100 %) differ in nothing, and what is not trained differs in no
place. Counted once per place, one result would look like several that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.store import SliceStore
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.plan import Plan

Run = tuple[int, int]
"""A draw of the labels and a seed."""


@dataclass(frozen=True)
class EquivalentRuns:
    """The places of the grid, of one method, backbone and budget, that one result stands for.

    Attributes:
        draws, seeds: in the plan's order; the first of each names it.
    """

    draws: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def run(self) -> Run:
        """The draw and the seed that it is done with."""
        return self.draws[0], self.seeds[0]


class RunGroups:
    """Which draws and seeds of a plan are equivalent.

    Args:
        plan: of the study.
        store: its training set.
    """

    def __init__(self, plan: Plan, store: SliceStore) -> None:
        self._plan, self._store = plan, store
        self._draws: dict[tuple[str, float], list[tuple[int, ...]]] = {}

    def at(self, method: MethodPlan, budget: str, draw: int, seed: int) -> EquivalentRuns | None:
        """The runs that a method's trial at a place stands for; None where the trial is named after another place."""
        if budget not in method.budgets:
            return None
        if method.training is None:
            runs = EquivalentRuns(self._plan.draws, self._plan.seeds)
        else:
            groups = self.alike(budget, method.training.values.get("middle_fraction", 1.0))
            runs = EquivalentRuns(next(draws for draws in groups if draw in draws), (seed,))
        return runs if runs.run == (draw, seed) else None

    def alike(self, budget: str, middle_fraction: float) -> list[tuple[int, ...]]:
        """The plan's draws, together where they select the same labels.

        Args:
            budget: as the plan writes it.
            middle_fraction: share of each scan's slices that is trained on.
        """
        key = (budget, middle_fraction)
        if key not in self._draws:
            groups: dict[bytes, tuple[int, ...]] = {}
            for draw in self._plan.draws:
                labels = self._labels(budget, middle_fraction, draw)
                groups[labels] = (*groups.get(labels, ()), draw)
            self._draws[key] = list(groups.values())
        return self._draws[key]

    def _labels(self, budget: str, middle_fraction: float, draw: int) -> bytes:
        slices = self._store.slices[self._store.is_middle(middle_fraction)]
        patients = self._store.split().train
        return draw_labels(slices, patients, Budget.parse(budget), draw, self._store.presence_columns).tobytes()


def standing_for(trials: pd.DataFrame) -> dict[Run, Run]:
    """(draw, seed) → the (draw, seed) that names the trial which stands there.

    Args:
        trials: rows of `StudyResults.trials` of one method, backbone and budget.
    """
    return {
        (draw, seed): (int(trial["draw"]), int(trial["seed"]))
        for trial in trials[["draw", "seed", "draws", "seeds"]].to_dict("records")
        for draw in listed(trial["draws"])
        for seed in listed(trial["seeds"])
    }


def pair_runs(mine: Mapping[Run, Run], theirs: Mapping[Run, Run]) -> dict[tuple[Run, Run], Run]:
    """The trials of two methods that belong together, each pair once → the first place where both stand.

    Args:
        mine, theirs: as `standing_for` gives them.
    """
    pairs: dict[tuple[Run, Run], Run] = {}
    for place, trial in mine.items():
        if place in theirs:
            pairs.setdefault((trial, theirs[place]), place)
    return pairs


def listed(numbers: object) -> tuple[int, ...]:
    """The numbers of "0 1 2", as trials.csv lists draws and seeds."""
    return tuple(int(number) for number in str(numbers).split())


def told_once(trials: pd.DataFrame) -> list[str]:
    """Sentences that say which draws and seeds are one run.

    Args:
        trials: of `StudyResults`.
    """
    trained = trials["trained"].eq(True)
    draws = {(str(b), str(d)): True for b, d in trials.loc[trained, ["budget", "draws"]].itertuples(index=False)}
    said = [
        f"At {budget} the draws {', '.join(numbers.split())} select the same labels: they are one run for each seed."
        for budget, numbers in draws
        if len(listed(numbers)) > 1
    ]
    places = [
        len(listed(d)) * len(listed(s)) for d, s in trials.loc[~trained, ["draws", "seeds"]].itertuples(index=False)
    ]
    return [*said, *(["What is not trained is one run, whatever draw and seed."] if max(places, default=1) > 1 else [])]
