"""How well a classifier tells which slices, and which scans, show an organ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Numbers = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def auroc(probabilities: Numbers, present: Bools) -> float | None:
    """Area under the ROC curve: the chance that one that shows the organ ranks above one that does not.

    By ranks (Mann-Whitney), equal ones counted half. None where all show it, or none does.
    """
    positives = int(np.count_nonzero(present))
    negatives = len(present) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(probabilities)
    return float((ranks[present].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def presence_figures(probabilities: Numbers, present: Bools, cut: float = 0.5) -> dict[str, float | int | None]:
    """AUROC, accuracy, sensitivity and specificity at `cut`, and how many there are.

    Args:
        probabilities: (N,).
        present: (N,) the truth.
        cut: called present from here on.

    Returns:
        auroc, accuracy, sensitivity, specificity, positives, negatives; None where there is nothing to count.
    """
    called = probabilities >= cut
    return {
        "auroc": auroc(probabilities, present),
        "accuracy": _share(called == present),
        "sensitivity": _share(called[present]),
        "specificity": _share(~called[~present]),
        "positives": int(np.count_nonzero(present)),
        "negatives": int(np.count_nonzero(~present)),
    }


def of_scan(probabilities: Numbers) -> float:
    """Probability that a scan shows an organ: that of its surest slice."""
    return float(probabilities.max())


def _share(hits: Bools) -> float | None:
    return float(hits.mean()) if len(hits) else None
