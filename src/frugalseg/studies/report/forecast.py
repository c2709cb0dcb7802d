"""What more labels are expected to bring: the Dice as a linear function of the logarithm of the labels.

For every run and patient the slope is fitted by least squares over the budgets; its mean over runs and patients, and
the interval of that mean, are those of any other score (`evaluation.statistics`). Pairing the budgets of a run and
patient removes what is common to them: a patient who is difficult is so at every budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.budget import Budget
from frugalseg.evaluation.metric_table import DICE
from frugalseg.evaluation.statistics import Interval, Run, crossed_interval, mean_without_nan
from frugalseg.studies.report.formatting import describe_endpoint, format_method
from frugalseg.studies.report.scores import Endpoint, Group, Scores
from frugalseg.text import format_number

FEWEST_BUDGETS = 2


@dataclass(frozen=True)
class Forecast:
    """The expected difference in Dice.

    Attributes:
        gain: its mean over runs and patients.
        interval: its 95 % interval, for other runs and patients, if the curve stays a straight line.
    """

    gain: float
    interval: Interval

    def __str__(self) -> str:
        text = format_number(self.gain, 3, sign=True)
        if self.interval.limits is None:
            return f"{text} ({self.interval.kind})"
        low, high = self.interval.limits
        return f"{text} ± {format_number((high - low) / 2, 3)}"


@dataclass(frozen=True)
class BudgetCurve:
    """How the Dice of a method grows with its labels.

    Attributes:
        method, backbone: of the study.
        endpoint: organ and test set.
        unit: of the budgets, scans or slices.
        amounts: the budgets, ascending.
        slopes: (runs, patients) differences in Dice for e times the labels.
        runs: draw and seed of each row.
    """

    method: str
    backbone: str
    endpoint: Endpoint
    unit: str
    amounts: tuple[float, ...]
    slopes: npt.NDArray[np.float64]
    runs: tuple[Run, ...]

    def forecast(self, now: float, more: float) -> Forecast:
        """What `more` labels bring to one who has `now`, both above 0."""
        gains = self.slopes * math.log((now + more) / now)
        return Forecast(float(np.nanmean(mean_without_nan(gains, axis=1))), crossed_interval(gains, self.runs))


def fit_slopes(amounts: Sequence[float], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least-squares slopes of scores (budgets, …) against the logarithm of the amounts (budgets,): (…)."""
    logs = np.log(np.asarray(amounts, dtype=np.float64))
    logs = logs - logs.mean()
    slopes: npt.NDArray[np.float64] = np.tensordot(logs / (logs @ logs), scores, axes=1)
    return slopes


def fit_curves(scores: Scores) -> list[BudgetCurve]:
    """A curve for each test set, organ, backbone, method and unit with at least two budgets and a run at all of them.

    Methods that used more information than the others, and masks of other programs, have none.
    """
    curves = []
    for endpoint in scores.endpoints:
        for backbone in scores.results.backbones:
            for method in scores.list_methods(backbone):
                if not scores.marks(method):
                    curves += [
                        curve
                        for unit in ("scans", "slices")
                        if (curve := _fit_curve(scores, endpoint, method, backbone, unit)) is not None
                    ]
    return curves


def _fit_curve(scores: Scores, endpoint: Endpoint, method: str, backbone: str, unit: str) -> BudgetCurve | None:
    tables = {}
    for text in scores.results.budgets:
        budget, group = Budget.parse(text, none=True), Group(method, backbone, text)
        if budget.unit == unit and budget.amount > 0 and scores.count_finished(endpoint, group):
            tables[budget.amount] = scores.run_scores(endpoint, group, DICE)
    if len(tables) < FEWEST_BUDGETS:
        return None
    amounts = tuple(sorted(tables))
    common = [run for run in tables[amounts[0]].index if all(run in table.index for table in tables.values())]
    if not common:
        return None
    stacked = np.stack([tables[amount].loc[common].to_numpy(np.float64) for amount in amounts])
    runs = tuple((int(draw), int(seed)) for draw, seed in common)
    return BudgetCurve(method, backbone, endpoint, unit, amounts, fit_slopes(amounts, stacked), runs)


def describe_forecasts(scores: Scores) -> list[str]:
    """One sentence per curve: what twice the largest budget is expected to bring."""
    return [_describe(scores, curve) for curve in fit_curves(scores)]


def _describe(scores: Scores, curve: BudgetCurve) -> str:
    most = curve.amounts[-1]
    found = curve.forecast(most, most)
    backbone = f", {curve.backbone}" if len(scores.results.backbones) > 1 else ""
    noun = curve.unit if most != 1 else curve.unit[:-1]
    fitted = " and ".join(f"{amount:g}" for amount in curve.amounts)
    place = f"{curve.endpoint.organ} on {describe_endpoint(scores, curve.endpoint)}{backbone}"
    kind = f"; {found.interval.kind}" if found.interval.limits is not None else ""
    return (
        f"{format_method(scores, curve.method)}, {place}: {most:g} more {noun} after {most:g}: {found} Dice "
        f"(fitted to {fitted} {curve.unit}{kind})"
    )
