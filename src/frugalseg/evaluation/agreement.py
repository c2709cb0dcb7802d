"""Agreement of predicted and reference volumes (Bland and Altman 1986, Lancet 327:307-310)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from frugalseg.evaluation.statistics import CONFIDENCE_LEVEL
from frugalseg.records.summary import Limit, VolumeAgreement

Floats = npt.NDArray[np.float64]

NOTHING = Limit(ml=None, ci95=None)
SPREAD = 1.959963984540054
"""Standard deviations from the bias to a limit of agreement: 95% of normally distributed differences lie inside."""


def agree_in_volume(differences: Sequence[float] | Floats) -> VolumeAgreement:
    """Bias and 95% limits of agreement, each with its 95% interval.

    The limits are bias ± 1.96 standard deviations. The interval of a limit is the exact one for normally distributed
    differences, from the noncentral t distribution (Carkeet 2015, Optometry and Vision Science 92:e71-e80); that of
    the bias is Student's. With few scans the limits are uncertain, and their intervals wide and asymmetric.

    Args:
        differences: (n,) predicted minus reference volume of each scan, ml; NaN are left out.

    Returns:
        Limits of None for fewer than two scans; no intervals if all differences are equal.
    """
    given = np.asarray(differences, dtype=np.float64)
    kept = given[~np.isnan(given)]
    if kept.size < 2:
        bias = Limit(ml=float(kept[0]), ci95=None) if kept.size else NOTHING
        return VolumeAgreement(n=int(kept.size), bias=bias, sd_ml=None, lower=NOTHING, upper=NOTHING)
    mean, sd, n = float(kept.mean()), float(kept.std(ddof=1)), int(kept.size)
    low, high = _limit_factors(n)
    return VolumeAgreement(
        n=n,
        bias=_limit(mean, sd, 0.0, _t_factors(n)),
        sd_ml=sd,
        lower=_limit(mean, sd, -SPREAD, (-high, -low)),
        upper=_limit(mean, sd, SPREAD, (low, high)),
    )


def _limit(mean: float, sd: float, at: float, interval: tuple[float, float]) -> Limit:
    low, high = interval
    return Limit(ml=mean + at * sd, ci95=(mean + low * sd, mean + high * sd) if sd else None)


def _t_factors(n: int) -> tuple[float, float]:
    """Interval of the mean of n differences, in standard deviations from it."""
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1)) / n**0.5
    return -half, half


def _limit_factors(n: int) -> tuple[float, float]:
    """Interval of the upper limit of n differences, in standard deviations from their mean."""
    from scipy import stats

    tails = ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2)
    low, high = (float(stats.nct.ppf(tail, n - 1, SPREAD * n**0.5)) / n**0.5 for tail in tails)
    return low, high
