"""Means over patients and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 22
"""Draws held in memory at once while resampling."""


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
