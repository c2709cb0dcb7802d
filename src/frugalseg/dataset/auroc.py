"""How well scores separate slices that show an organ from those that do not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def auroc(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: fraction of (true, false) pairs in which the true one has the higher score.

    Computed by ranks (Mann-Whitney U); ties count half. None if all are true, or none is.

    Args:
        scores, truth: (N,).
    """
    hits = int(np.count_nonzero(truth))
    misses = len(truth) - hits
    if not hits or not misses:
        return None
    return float((rankdata(scores)[truth].sum() - hits * (hits + 1) / 2) / (hits * misses))
