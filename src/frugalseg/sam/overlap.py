"""How far two masks agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def overlap(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """IoU of two masks of one shape, 0…1; 0 where both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0
