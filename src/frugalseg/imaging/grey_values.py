"""How grey values tell an object from its surroundings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]

GREY_LEVELS = 32


def log_ratio(smooth: Floats, mask: Bools, near: Bools) -> Figures:
    """Log likelihood ratio of each of `GREY_LEVELS`, object against surroundings; 0 where either is empty.

    Args:
        smooth: (H, W) in [0, 1], the smoothed slice.
        mask: (H, W) the object.
        near: (H, W) the object and its surroundings.
    """
    if not mask.any() or not (near & ~mask).any():
        return np.zeros(GREY_LEVELS)
    ratio: Figures = np.log(_histogram(smooth[mask]) / _histogram(smooth[near & ~mask]))
    return ratio


def look_up(ratio: Figures, smooth: Floats) -> Figures:
    """The ratio of the grey value of every pixel."""
    values: Figures = ratio[(smooth * GREY_LEVELS).astype(int).clip(0, GREY_LEVELS - 1)]
    return values


def _histogram(values: Floats) -> Figures:
    """Smoothed histogram that sums to 1; no level is 0."""
    counts = np.histogram(values, GREY_LEVELS, (0, 1))[0] + 1.0
    smooth = ndimage.gaussian_filter1d(counts, 1.0)
    shares: Figures = smooth / smooth.sum()
    return shares
