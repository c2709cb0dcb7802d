"""Equivalent runs of a grid: identical trainings are one trial, done and counted once.

Draws that select the same labels (at 100 %, all of them) give identical trainings, and a method without training gives
the same masks for every draw and seed. If it were counted for each draw and seed, one result would look like several
that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.slice_choice import find_rule
from frugalseg.dataset.store import SliceStore
from frugalseg.evaluation.statistics import Run
from frugalseg.options import Choose
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.plan import StudyPlan


@dataclass(frozen=True)
class EquivalentRuns:
    """The draws and seeds, at one method, backbone and budget, that one trial represents.

    Attributes:
        draws, seeds: in the plan's order; the trial is named by the first of each.
    """

    draws: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def run(self) -> Run:
        """The draw and the seed that the trial is run with."""
        return self.draws[0], self.seeds[0]


class RunGroups:
    """Which draws and seeds of a plan are equivalent.

    Args:
        plan: the plan.
        store: the training set.
    """

    def __init__(self, plan: StudyPlan, store: SliceStore) -> None:
        self._plan, self._store = plan, store
        self._draws: dict[tuple[str, float, Choose], list[tuple[int, ...]]] = {}

    def find_runs(self, method: MethodPlan, budget: str, draw: int, seed: int) -> EquivalentRuns | None:
        """The runs that a method's trial represents; None where another draw or seed names the trial."""
        if budget not in method.budgets:
            return None
        if method.training is None:
            runs = EquivalentRuns(self._plan.draws, self._plan.seeds)
        else:
            values = method.training.values
            groups = self.group_draws(budget, values.get("middle_fraction", 1.0), values.get("choose", "random"))
            runs = EquivalentRuns(next(draws for draws in groups if draw in draws), (seed,))
        return runs if runs.run == (draw, seed) else None

    def group_draws(self, budget: str, middle_fraction: float, choose: Choose = "random") -> list[tuple[int, ...]]:
        """The plan's draws, grouped by the labels that they select.

        Args:
            budget: a budget of the plan.
            middle_fraction: share of each scan's slices that is used for training.
            choose: how a budget of slices is chosen.
        """
        key = (budget, middle_fraction, choose)
        if key not in self._draws:
            groups: dict[bytes, tuple[int, ...]] = {}
            for draw in self._plan.draws:
                labels = self._draw_labels(budget, middle_fraction, choose, draw)
                groups[labels] = (*groups.get(labels, ()), draw)
            self._draws[key] = list(groups.values())
        return self._draws[key]

    def _draw_labels(self, text: str, middle_fraction: float, choose: Choose, draw: int) -> bytes:
        slices = self._store.slices[self._store.is_middle(middle_fraction)]
        budget, patients = Budget.parse(text), self._store.split().train
        rule = find_rule(choose, budget.unit, self._store)
        return draw_labels(slices, patients, budget, draw, self._store.presence_columns, rule).tobytes()


def map_runs_to_trials(trials: pd.DataFrame) -> dict[Run, Run]:
    """(draw, seed) → the (draw, seed) that names the trial which represents it.

    Args:
        trials: rows of `StudyResults.trials` of one method, backbone and budget.
    """
    return {
        (draw, seed): (int(trial["draw"]), int(trial["seed"]))
        for trial in trials[["draw", "seed", "draws", "seeds"]].to_dict("records")
        for draw in parse_numbers(trial["draws"])
        for seed in parse_numbers(trial["seeds"])
    }


def pair_runs(mine: Mapping[Run, Run], theirs: Mapping[Run, Run]) -> dict[tuple[Run, Run], Run]:
    """The trials of two methods that represent a common run, each pair once → the first such run.

    Args:
        mine, theirs: from `map_runs_to_trials`.
    """
    pairs: dict[tuple[Run, Run], Run] = {}
    for run, trial in mine.items():
        if run in theirs:
            pairs.setdefault((trial, theirs[run]), run)
    return pairs


def parse_numbers(numbers: object) -> tuple[int, ...]:
    """The numbers in "0 1 2", the format of draws and seeds in trials.csv."""
    return tuple(int(number) for number in str(numbers).split())


def describe_equivalent_runs(trials: pd.DataFrame) -> list[str]:
    """Sentences on the draws and seeds that are one run.

    Args:
        trials: of `StudyResults`.
    """
    trained = trials["trained"].eq(True)
    draws = {(str(b), str(d)): True for b, d in trials.loc[trained, ["budget", "draws"]].itertuples(index=False)}
    sentences = [
        f"At {budget}, draws {', '.join(numbers.split())} select the same labels, so they are one run for each seed."
        for budget, numbers in draws
        if len(parse_numbers(numbers)) > 1
    ]
    runs_of_untrained = [
        len(parse_numbers(d)) * len(parse_numbers(s))
        for d, s in trials.loc[~trained, ["draws", "seeds"]].itertuples(index=False)
    ]
    if max(runs_of_untrained, default=1) > 1:
        sentences.append("A method without training is one run for all draws and seeds.")
    return sentences
