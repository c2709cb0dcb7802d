"""Means over patients and over runs, how far they can be trusted, and whether two methods differ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Run = tuple[int, int]
"""A training: which draw of the labels, and which seed."""

CHUNK = 1 << 22
"""Draws held in memory at once while resampling."""
FEWEST_PATIENTS = 6
"""Patients whose scores differ that a two-sided signed-rank test needs to be able to give p < 0.05."""
SAME_SCORE = 12
"""Decimals after which two scores count as equal; what averaging leaves beyond them is rounding."""


@dataclass(frozen=True)
class Summary:
    """One metric over the scans of a group.

    Attributes:
        n: scans that have a value.
        left_out: scans without one (NaN), left out of everything here.
        mean, sd, median, minimum, maximum: over the n values; NaN where there are none. sd has n - 1 in its
            denominator and is NaN below two values.
        ci95: 95% bootstrap interval of the mean, or None below two values.
    """

    n: int
    left_out: int
    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    ci95: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def summarise(values: Sequence[float] | npt.NDArray[np.float64], resamples: int, seed: int) -> Summary:
    """Summarise one value a patient; NaN are counted and left out."""
    given = np.asarray(values, dtype=np.float64)
    kept = given[~np.isnan(given)]
    nan = float("nan")
    some = kept.size > 0
    return Summary(
        n=int(kept.size),
        left_out=int(given.size - kept.size),
        mean=float(kept.mean()) if some else nan,
        sd=float(kept.std(ddof=1)) if kept.size > 1 else nan,
        median=float(np.median(kept)) if some else nan,
        minimum=float(kept.min()) if some else nan,
        maximum=float(kept.max()) if some else nan,
        ci95=bootstrap_mean(kept, resamples, seed),
    )


def bootstrap_mean(
    values: Sequence[float] | npt.NDArray[np.float64], resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over patients (Efron & Tibshirani 1993, chapter 13).

    It tells how the mean would move with other patients of the same kind, for this one trained model; the spread
    over training runs is another matter. Below some ten patients it is narrower than it should be.

    Args:
        values: (n,) one value a patient; NaN are left out.
        resamples: number of draws of n patients with replacement.
        seed: one seed gives one interval; metrics of the same patients share their draws.
        level: coverage, between 0 and 1.

    Returns:
        Lower and upper limit, or None where fewer than two patients leave nothing to resample.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if kept.size < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // kept.size)
    means = np.concatenate(
        [
            kept[rng.integers(kept.size, size=(min(rows, resamples - start), kept.size))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def bootstrap_runs_and_patients(
    scores: npt.NDArray[np.float64],
    runs: Sequence[Run],
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean where draws of the labels, seeds and patients are each a sample.

    Runs are not independent: those of one draw share their labels, those of one seed their pre-training, and all of
    them the patients they are tested on. So the three are crossed: draws, seeds and patients are drawn with
    replacement independently of each other, and the mean is taken over the scores where they meet (the pigeonhole
    bootstrap, Owen 2007, Annals of Applied Statistics 1(2):386-411). The interval tells how the mean would move with
    other patients and with the model trained again, on another draw of the labels. What there is one of stays as it is.

    It assumes that draws, seeds and patients are a random sample of those one could have had. Of few levels a bootstrap
    sees too little: two draws can only be drawn in three ways and vary half as much as they should, so the interval is
    then too narrow (docs/reference/statistics.md tells by how much).

    Args:
        scores: (runs, patients) of one method, or differences of two methods; NaN are left out of every mean.
        runs: the (draw, seed) of each row.
        resamples: number of draws.
        seed: one seed gives one interval.
        level: coverage, between 0 and 1.

    Returns:
        Lower and upper limit; with one run it varies the patients only. None where fewer than two patients have a
        score.

    Raises:
        ValueError: not as many runs as rows.
    """
    given = np.asarray(scores, dtype=np.float64)
    if len(runs) != len(given):
        raise ValueError(f"{len(given)} rows of scores for {len(runs)} runs")
    held: npt.NDArray[np.bool_] = ~np.isnan(given)
    rows: list[int] = np.flatnonzero(held.any(axis=1)).tolist()
    scores = given[rows][:, held.any(axis=0)]
    if scores.shape[1] < 2:
        return None
    draws, seeds = (_levels_drawn([runs[row][factor] for row in rows], resamples, seed, factor) for factor in (0, 1))
    weights = draws * seeds
    patients = _times_drawn(scores.shape[1], resamples, seed, 2)
    known = ~np.isnan(scores)
    total = ((weights @ np.where(known, scores, 0.0)) * patients).sum(axis=1)
    count = ((weights @ known.astype(np.float64)) * patients).sum(axis=1)
    means = total[count > 0] / count[count > 0]
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def _levels_drawn(levels: Sequence[int], resamples: int, seed: int, axis: int) -> npt.NDArray[np.float64]:
    """(resamples, runs): how often the level of each run is drawn when all levels are drawn with replacement."""
    names, of_run = np.unique(levels, return_inverse=True)
    return _times_drawn(len(names), resamples, seed, axis)[:, of_run]


@lru_cache(maxsize=8)
def _times_drawn(n: int, resamples: int, seed: int, axis: int) -> npt.NDArray[np.float64]:
    """(resamples, n): how often each of n is drawn when n are drawn with replacement."""
    draws = np.random.default_rng([seed, axis]).multinomial(n, [1.0 / n] * n, size=resamples)
    return draws.astype(np.float64)


@dataclass(frozen=True)
class SignedRank:
    """A paired Wilcoxon signed-rank test over patients.

    Attributes:
        n: patients with a score from both methods.
        zeros: those among them whose scores are equal; they are left out of the ranking.
        p: two-sided; NaN where no patient's scores differ.
        least_p: the least p that so many patients can give, 2 · 2^-(n - zeros): where it is above 0.05, no
            difference between the methods can be shown by this test however large it is.
    """

    n: int
    zeros: int
    p: float
    least_p: float

    @property
    def can_reach_five_percent(self) -> bool:
        """Whether enough patients differ for p < 0.05 to be possible at all."""
        return self.n - self.zeros >= FEWEST_PATIENTS


def signed_rank(differences: Sequence[float] | npt.NDArray[np.float64]) -> SignedRank:
    """Test whether paired differences lie symmetrically around 0 (Wilcoxon 1945), two-sided.

    Zeros are left out before ranking (Wilcoxon's own way, `zero_method="wilcox"` of SciPy). The p is exact up to 50
    patients without ties and up to 13 with ties; beyond, it is the normal approximation without continuity
    correction.

    Args:
        differences: (n,) one value a patient: a method's score minus the other's, each averaged over the patient's
            scans and over the runs. NaN are left out.
    """
    from scipy import stats

    given = np.asarray(differences, dtype=np.float64)
    kept = np.round(given[~np.isnan(given)], SAME_SCORE)
    differing = kept[kept != 0]
    p = float(stats.wilcoxon(differing, zero_method="wilcox").pvalue) if differing.size else float("nan")
    return SignedRank(int(kept.size), int(kept.size - differing.size), p, min(1.0, 2.0 * 0.5**differing.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of one family of tests (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Args:
        p_values: of all tests of the family; NaN (nothing to test) belongs to no family and stays NaN.

    Returns:
        Adjusted p-values in the order given: comparing them with 0.05 keeps the chance of any false finding in the
        family at 5%.

    Raises:
        ValueError: a p outside 0…1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p-values lie between 0 and 1")
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return [float(v) for v in adjusted]


@dataclass(frozen=True)
class RunSummary:
    """One metric of a method over its runs (draws of the labels × seeds), each tested on the same patients.

    Attributes:
        runs: runs that have a value.
        patients: patients that have a value in any run.
        mean: mean over the runs of each run's mean over the patients.
        sd: standard deviation of the runs' means, n - 1 in the denominator; NaN below two runs.
        ci95: 95% bootstrap interval over patients of the score averaged over the runs, or None below two patients.
        ci95_runs: the same with draws, seeds and patients resampled (`bootstrap_runs_and_patients`).
    """

    runs: int
    patients: int
    mean: float
    sd: float
    ci95: tuple[float, float] | None
    ci95_runs: tuple[float, float] | None


def summarise_runs(
    scores: npt.NDArray[np.float64], runs: Sequence[Run], resamples: int = 10_000, seed: int = 0
) -> RunSummary:
    """Summarise (runs, patients) scores of one method, `runs` naming the rows; NaN are left out of every mean."""
    scores = np.asarray(scores, dtype=np.float64)
    of_runs, of_patients = mean_without_nan(scores, axis=1), mean_without_nan(scores, axis=0)
    of_runs, of_patients = of_runs[~np.isnan(of_runs)], of_patients[~np.isnan(of_patients)]
    return RunSummary(
        runs=int(of_runs.size),
        patients=int(of_patients.size),
        mean=float(of_runs.mean()) if of_runs.size else math.nan,
        sd=float(of_runs.std(ddof=1)) if of_runs.size > 1 else math.nan,
        ci95=bootstrap_mean(of_patients, resamples, seed),
        ci95_runs=bootstrap_runs_and_patients(scores, runs, resamples, seed),
    )


def mean_without_nan(scores: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """`np.nanmean` that gives NaN where there is nothing to average, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means: npt.NDArray[np.float64] = np.nanmean(scores, axis=axis)
    return means
