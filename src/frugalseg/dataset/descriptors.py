"""A cheap description of every slice of a store by its image alone: thumbnails, reduced to principal components.

Slices that look alike have similar thumbnails: the same level of the body, a similar body, a similar contrast. No
network, no label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.shards import StoredArray

Features = npt.NDArray[np.float32]

THUMBNAIL = 16
"""Side of the thumbnails, pixels."""
COMPONENTS = 32
"""Principal components kept."""
SLICES_TO_FIT = 4096
"""Slices from which the components are computed."""
SLICES_AT_ONCE = 512


def describe_slices(images: StoredArray, rows: npt.NDArray[np.int64]) -> Features:
    """A vector for each slice, (R, D) with D up to `COMPONENTS`; Euclidean distances are those of the thumbnails.

    Args:
        images: (N, S, S) in [0, 1]; may be memory-mapped: few slices are read at once, and no others than these.
        rows: (R,) the slices to describe.
    """
    if len(rows) == 0:
        return np.zeros((0, 1), np.float32)
    chunks = range(0, len(rows), SLICES_AT_ONCE)
    return reduce_dimensions(np.concatenate([shrink(images[rows[at : at + SLICES_AT_ONCE]]) for at in chunks]))


def shrink(images: npt.NDArray[np.floating[Any]]) -> Features:
    """(n, S, S) → (n, side²), the mean of each of side × side tiles; side is at most `THUMBNAIL`."""
    size = images.shape[-1]
    side = min(THUMBNAIL, size)
    edges = np.linspace(0, size, side + 1).astype(int)
    tiles = images.astype(np.float32)
    for axis in (1, 2):
        tiles = np.add.reduceat(tiles, edges[:-1], axis=axis)
    pixels = np.diff(edges)
    shrunk: Features = (tiles / np.outer(pixels, pixels)).reshape(len(images), -1).astype(np.float32)
    return shrunk


def reduce_dimensions(features: Features, components: int = COMPONENTS) -> Features:
    """The first principal components (N, ≤ `components`) of features (N, D), fitted on evenly chosen rows."""
    centred = features - features.mean(axis=0)
    fitted = centred[:: max(1, len(centred) // SLICES_TO_FIT)]
    # Of the covariance, D × D: the number of slices does not matter.
    _, vectors = np.linalg.eigh((fitted.T @ fitted).astype(np.float64))
    basis = vectors[:, ::-1][:, :components].astype(np.float32)
    reduced: Features = centred @ basis
    return reduced
