"""Means over patients and runs, their confidence intervals, and tests of the difference between two methods."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import MetricSummary
from frugalseg.text import pluralize

Run = tuple[int, int]
"""A training run: its draw of the labels and its seed."""

Range = tuple[float, float]
"""The minimum and maximum that a metric, or the difference of two values of it, can have."""

UNBOUNDED: Range = (-math.inf, math.inf)
CONFIDENCE_LEVEL = 0.95
"""Nominal coverage of the intervals."""
FEWEST_TO_RESAMPLE = 30
"""Sample size from which a bootstrap covers as well as a t interval, and better for skewed scores
(interval_coverage.py)."""
VALUES_AT_ONCE = 1 << 22
"""Values per batch of resampling, which bounds the memory."""
FEWEST_PATIENTS = 6
"""Patients with different scores that a two-sided signed-rank test needs for p < 0.05 to be possible."""
SCORE_DECIMALS = 12
"""Decimals to which scores are compared; beyond them, averaging leaves rounding errors."""


@dataclass(frozen=True)
class Interval:
    """The 95% interval of a mean, or why there is none.

    Attributes:
        limits: lower and upper limit, inside the metric's range; None where there is no interval.
        method: "t" or "BCa bootstrap"; empty where there is no interval.
        sample: the sample, as "4 patients" or "2 draws, 3 seeds, 12 patients"; without an interval, why there is none.
    """

    limits: tuple[float, float] | None
    method: str
    sample: str

    @property
    def kind(self) -> str:
        """Method and sample in words: "t interval, 4 patients", "no interval: 1 patient"."""
        return f"{self.method} interval, {self.sample}" if self.limits else f"no interval: {self.sample}"

    def clip(self, scale: Range) -> Interval:
        """The interval limited to the metric's range, in which the true mean always lies."""
        if self.limits is None:
            return self
        low, high = self.limits
        return replace(self, limits=(max(low, scale[0]), min(high, scale[1])))


def describe_interval_rule(noun: str, resamples: int, seed: int) -> str:
    """The rule by which `mean_interval` chooses the kind of interval, in words, for reports.

    Args:
        noun: the unit of the sample: "patient" or "scan".
        resamples, seed: of the bootstrap.
    """
    return (
        f"95% interval of the mean, inside the metric's range: Student's t below {FEWEST_TO_RESAMPLE} {noun}s, BCa "
        f"bootstrap from {FEWEST_TO_RESAMPLE} ({resamples:,} resamplings, seed {seed}); none of one {noun}, or where "
        "all have the same score"
    )


def mean_interval(
    values: Sequence[float] | npt.NDArray[np.float64],
    resamples: int = 10_000,
    seed: int = 0,
    scale: Range = UNBOUNDED,
    noun: str = "patient",
) -> Interval:
    """The 95% interval of the mean over patients.

    It states how much the mean would vary with other patients of the same population, for this one trained model; for
    the variation between training runs see `crossed_interval`. With few patients every bootstrap is too narrow: the
    variance of resamples is (n - 1) / n of the true one, and two patients have only two values to draw from. So below
    `FEWEST_TO_RESAMPLE` it is Student's t interval; from there the bias-corrected and accelerated bootstrap (Efron
    1987, JASA 82:171-185), which extends further to the side on which a few patients fail. No interval can account for
    failures that no patient shows; docs/reference/statistics.md gives the coverage of each.

    Args:
        values: (n,) one value per patient; NaN are left out.
        resamples, seed: of the bootstrap; one seed gives one interval.
        scale: minimum and maximum of the metric.
        noun: the unit of the sample.

    Returns:
        An interval without limits for fewer than two values, and for equal values, whose spread is unknown.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    sample = pluralize(kept.size, noun)
    if kept.size < 2:
        return Interval(None, "", sample)
    if _are_equal(kept):
        return Interval(None, "", f"{sample}, all with the same score")
    if kept.size < FEWEST_TO_RESAMPLE:
        return Interval(t_limits(float(kept.mean()), [kept]), "t", sample).clip(scale)
    return Interval(bca_limits(kept, resamples, seed), "BCa bootstrap", sample).clip(scale)


def t_limits(mean: float, samples: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Student's t interval of a mean whose variance is the sum of the contributions of several samples.

    A sample of n values contributes its variance divided by n, with n - 1 degrees of freedom; the degrees of freedom
    of the sum are Satterthwaite's (1946, Biometrics Bulletin 2:110-114). With one sample it is the usual t interval.

    Args:
        mean: the middle of the interval.
        samples: each (n ≥ 2,); not all of them constant.
    """
    from scipy import stats

    parts = np.array([sample.var(ddof=1) / sample.size for sample in samples])
    freedom = parts.sum() ** 2 / sum(part**2 / (sample.size - 1) for part, sample in zip(parts, samples, strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, freedom) * math.sqrt(parts.sum()))
    return mean - half, mean + half


def bca_limits(values: npt.NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean of (n,) values, not all of them equal."""
    from scipy import stats

    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, VALUES_AT_ONCE // values.size),
        confidence_level=CONFIDENCE_LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _are_equal(values: npt.NDArray[np.float64]) -> bool:
    return bool(np.ptp(np.round(values, SCORE_DECIMALS)) == 0)


@dataclass(frozen=True)
class Summary:
    """One metric over the scans of a group.

    Attributes:
        n: scans that have a value.
        left_out: scans without one (NaN), left out of everything here.
        mean, sd, median, minimum, maximum: over the n values; NaN where there are none. sd has n - 1 in its
            denominator and is NaN below two values.
        ci95: limits of the 95% interval of the mean (`mean_interval`), or None.
        ci95_kind: the kind of interval and its number of scans, or why there is none.
    """

    n: int
    left_out: int
    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    ci95: tuple[float, float] | None
    ci95_kind: str

    def to_record(self) -> MetricSummary:
        """The summary as summary.json stores it."""
        return MetricSummary(
            n=self.n,
            left_out=self.left_out,
            mean=finite_or_none(self.mean),
            sd=finite_or_none(self.sd),
            median=finite_or_none(self.median),
            minimum=finite_or_none(self.minimum),
            maximum=finite_or_none(self.maximum),
            ci95=self.ci95,
            ci95_kind=self.ci95_kind,
        )


def summarise(
    values: Sequence[float] | npt.NDArray[np.float64], resamples: int, seed: int, scale: Range = UNBOUNDED
) -> Summary:
    """Summarise one value per scan, each taken as one patient; NaN are counted and left out. See `mean_interval`."""
    given = np.asarray(values, dtype=np.float64)
    kept = given[~np.isnan(given)]
    nan = float("nan")
    has_values = kept.size > 0
    interval = mean_interval(kept, resamples, seed, scale, "scan")
    return Summary(
        n=int(kept.size),
        left_out=int(given.size - kept.size),
        mean=float(kept.mean()) if has_values else nan,
        sd=float(kept.std(ddof=1)) if kept.size > 1 else nan,
        median=float(np.median(kept)) if has_values else nan,
        minimum=float(kept.min()) if has_values else nan,
        maximum=float(kept.max()) if has_values else nan,
        ci95=interval.limits,
        ci95_kind=interval.kind,
    )


def crossed_interval(
    scores: npt.NDArray[np.float64],
    runs: Sequence[Run],
    resamples: int = 10_000,
    seed: int = 0,
    scale: Range = UNBOUNDED,
) -> Interval:
    """The 95% interval of the mean where draws of the labels, seeds and patients are three crossed random samples.

    Runs are not independent: those of one draw share their labels, those of one seed their pre-training, and all of
    them their test patients. So the variance of the mean is the sum of three terms: the variances of the means of
    draws, of seeds and of patients, each divided by their number (`t_limits`). Interactions are counted more than
    once, which makes the interval wider, never narrower. The interval states how much the mean would vary with other
    patients and with the model trained again on another draw of the labels. Resampling instead (the pigeonhole
    bootstrap, Owen 2007) has a lower coverage, since it underestimates the variance of two draws.

    Draws, seeds and patients are assumed to be random samples. A factor with a single value (one draw, or one seed)
    adds no variance: the interval then applies to that draw or seed alone, as its `sample` says.

    Args:
        scores: (runs, patients) of one method, or differences of two methods; NaN are left out of every mean.
        runs: the (draw, seed) of each row.
        resamples, seed: of the bootstrap that `mean_interval` may use where there is one run.
        scale: minimum and maximum of the metric, or of the difference.

    Returns:
        For one run the interval over its patients. Without limits for fewer than two patients with a score, and for
        equal scores.

    Raises:
        ValueError: the numbers of runs and of rows differ.
    """
    given = np.asarray(scores, dtype=np.float64)
    if len(runs) != len(given):
        raise ValueError(f"{len(given)} rows of scores for {len(runs)} runs")
    of_runs, patients = mean_without_nan(given, axis=1), _drop_nan(mean_without_nan(given, axis=0))
    known: list[int] = np.flatnonzero(~np.isnan(of_runs)).tolist()
    if len(known) < 2 or patients.size < 2:
        return mean_interval(patients, resamples, seed, scale)
    draws, seeds = (_level_means(of_runs[known], [runs[row][factor] for row in known]) for factor in (0, 1))
    sample = f"{pluralize(draws.size, 'draw')}, {pluralize(seeds.size, 'seed')}, {pluralize(patients.size, 'patient')}"
    samples = [means for means in (draws, seeds, patients) if means.size > 1]
    if all(map(_are_equal, samples)):
        return Interval(None, "", f"{sample}, all with the same score")
    return Interval(t_limits(float(of_runs[known].mean()), samples), "t", sample).clip(scale)


def _level_means(of_runs: npt.NDArray[np.float64], levels: Sequence[int]) -> npt.NDArray[np.float64]:
    """The mean over the runs of each level, a draw or a seed."""
    _, of_run = np.unique(levels, return_inverse=True)
    means: npt.NDArray[np.float64] = np.bincount(of_run, of_runs) / np.bincount(of_run)
    return means


def _drop_nan(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values[~np.isnan(values)]


@dataclass(frozen=True)
class SignedRank:
    """A paired Wilcoxon signed-rank test over patients.

    Attributes:
        n: patients with a score from both methods.
        zeros: patients among them with equal scores; they are left out of the ranking.
        p: two-sided; NaN where no patient's scores differ.
        least_p: the smallest p possible with that many patients, 2 · 2^-(n - zeros): where it is above 0.05, this
            test cannot show any difference between the methods, however large.
    """

    n: int
    zeros: int
    p: float
    least_p: float

    @property
    def can_reach_five_percent(self) -> bool:
        """Whether enough patients differ for p < 0.05 to be possible."""
        return self.n - self.zeros >= FEWEST_PATIENTS


def signed_rank(differences: Sequence[float] | npt.NDArray[np.float64]) -> SignedRank:
    """Test whether paired differences lie symmetrically around 0 (Wilcoxon 1945), two-sided.

    Zeros are left out before ranking, as in Wilcoxon's paper (`zero_method="wilcox"` of SciPy). The p is exact up to
    50 patients without ties and up to 13 with ties; above, it is the normal approximation without continuity
    correction.

    Args:
        differences: (n,) one value per patient: one method's score minus the other's, each averaged over the
            patient's scans and over the runs. NaN are left out.
    """
    from scipy import stats

    given = np.asarray(differences, dtype=np.float64)
    kept = np.round(given[~np.isnan(given)], SCORE_DECIMALS)
    differing = kept[kept != 0]
    p = float(stats.wilcoxon(differing, zero_method="wilcox").pvalue) if differing.size else float("nan")
    return SignedRank(int(kept.size), int(kept.size - differing.size), p, min(1.0, 2.0 * 0.5**differing.size))


def compare_means(
    first: Sequence[float] | npt.NDArray[np.float64], second: Sequence[float] | npt.NDArray[np.float64]
) -> Interval:
    """Welch's 95% interval of the difference of two means, second minus first, of unpaired patients.

    The variances of the groups may differ (Welch 1947, Biometrika 34:28-35).

    Args:
        first, second: (n,) and (m,) one value per patient; NaN are left out.

    Returns:
        An interval without limits where a group has fewer than two patients, or all have the same score.
    """
    a, b = (_drop_nan(np.asarray(values, dtype=np.float64)) for values in (first, second))
    sample = f"{a.size} and {pluralize(b.size, 'patient')}"
    if min(a.size, b.size) < 2:
        return Interval(None, "", sample)
    if _are_equal(a) and _are_equal(b):
        return Interval(None, "", f"{sample}, all of a group with the same score")
    return Interval(t_limits(float(b.mean() - a.mean()), [a, b]), "Welch", sample)


def rank_sum_p(
    first: Sequence[float] | npt.NDArray[np.float64], second: Sequence[float] | npt.NDArray[np.float64]
) -> float:
    """Two-sided p of the rank-sum test of two groups of patients (Mann and Whitney 1947).

    Exact where the smaller group has at most eight patients and no two scores are equal, otherwise the normal
    approximation with continuity correction.

    Args:
        first, second: (n,) and (m,) one value per patient; NaN are left out.

    Returns:
        NaN where a group has fewer than two patients, or all scores are equal.
    """
    from scipy import stats

    a, b = (np.round(_drop_nan(np.asarray(values, dtype=np.float64)), SCORE_DECIMALS) for values in (first, second))
    if min(a.size, b.size) < 2 or np.ptp(np.concatenate([a, b])) == 0:
        return math.nan
    return float(stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of one family of tests (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Args:
        p_values: of all tests of the family; NaN (nothing to test) does not count as a test and stays NaN.

    Returns:
        Adjusted p-values in the given order. Comparing them with 0.05 keeps the probability of any false positive in
        the family at or below 5%.

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
        ci95: 95% interval over patients of the score averaged over the runs (`mean_interval`).
        ci95_runs: the same over draws, seeds and patients (`crossed_interval`).
    """

    runs: int
    patients: int
    mean: float
    sd: float
    ci95: Interval
    ci95_runs: Interval


def summarise_runs(
    scores: npt.NDArray[np.float64],
    runs: Sequence[Run],
    resamples: int = 10_000,
    seed: int = 0,
    scale: Range = UNBOUNDED,
) -> RunSummary:
    """Summarise the (runs, patients) scores of one method; `runs` are its rows. NaN are left out of every mean."""
    scores = np.asarray(scores, dtype=np.float64)
    of_runs, of_patients = _drop_nan(mean_without_nan(scores, axis=1)), _drop_nan(mean_without_nan(scores, axis=0))
    return RunSummary(
        runs=int(of_runs.size),
        patients=int(of_patients.size),
        mean=float(of_runs.mean()) if of_runs.size else math.nan,
        sd=float(of_runs.std(ddof=1)) if of_runs.size > 1 else math.nan,
        ci95=mean_interval(of_patients, resamples, seed, scale),
        ci95_runs=crossed_interval(scores, runs, resamples, seed, scale),
    )


def mean_without_nan(scores: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """`np.nanmean` without its warning where all values are NaN."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means: npt.NDArray[np.float64] = np.nanmean(scores, axis=axis)
    return means
