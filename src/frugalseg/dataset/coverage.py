"""Few slices that stand for many: greedy k-medoids on features of slices.

The mean distance of a slice to the nearest chosen one is reduced as much as possible with each choice. The reduction is
submodular, so the greedy choice is within 1 − 1/e of the best (Nemhauser, Wolsey and Fisher, 1978), larger choices
contain smaller ones, and gains can be computed lazily (Minoux, 1978).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.descriptors import Features

Weights = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pick:
    """A chosen slice.

    Attributes:
        index: its row in the features.
        gain: by how much the weighted mean distance to the nearest chosen slice fell.
        represents: weight of the slices that look more like it than like any slice chosen or outlined before, as a
            fraction of the total weight.
    """

    index: int
    gain: float
    represents: float


def choose_representatives(
    features: Features,
    count: int,
    weights: Weights | None = None,
    outlined: Features | None = None,
) -> list[Pick]:
    """Choose up to `count` slices, most useful first.

    Args:
        features: (N, D) of the slices to choose from; distances are Euclidean.
        count: number of slices.
        weights: (N,) importance of each slice being near a chosen one, ≥ 0; by default equal.
        outlined: (M, D) features of slices that need not be chosen: they are outlined already.
    """
    if len(features) == 0:
        return []
    weight = np.ones(len(features)) if weights is None else np.asarray(weights, dtype=np.float64)
    weight = weight / max(weight.sum(), np.finfo(float).tiny)
    distances = _distances(features, features)
    # Before anything is outlined, every slice is equally far from all outlined ones: the first choice is the medoid.
    nearest = np.full(len(features), distances.max(initial=0.0))
    if outlined is not None and len(outlined):
        nearest = _distances(features, outlined).min(axis=1)

    def gain_of(index: int) -> float:
        return float(weight @ np.maximum(nearest - distances[index], 0.0))

    picks: list[Pick] = []
    queue = [(-gain_of(i), i) for i in range(len(features))]
    heapq.heapify(queue)
    while queue and len(picks) < count:
        gain, index = -gain_of(queue[0][1]), queue[0][1]
        heapq.heapreplace(queue, (gain, index))
        if queue[0][1] != index:  # its gain was out of date; gains only fall, so the new first may be the largest
            continue
        heapq.heappop(queue)
        closer = distances[index] < nearest
        picks.append(Pick(index, -gain, float(weight[closer].sum())))
        nearest = np.minimum(nearest, distances[index])
    return picks


def _distances(one: Features, other: Features) -> npt.NDArray[np.float32]:
    """(N, M) Euclidean distances."""
    squares = [np.einsum("nd,nd->n", part, part) for part in (one, other)]
    squared = squares[0][:, None] + squares[1][None] - 2 * (one @ other.T)
    distances: npt.NDArray[np.float32] = np.sqrt(np.maximum(squared, 0.0)).astype(np.float32)
    if one is other:
        np.fill_diagonal(distances, 0.0)
    return distances


def thin_out(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the indices 0…count − 1, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def spread_fraction(number: int) -> float:
    """The `number`-th (from 0) of the van der Corput sequence 1/2, 1/4, 3/4, 1/8, 5/8 …: however many are used, they
    are spread evenly over 0…1."""
    value, step, rest = 0.0, 0.5, number + 1
    while rest:
        value += step * (rest & 1)
        rest >>= 1
        step /= 2
    return value


def take_turns(queues: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """The items of the queues in turn: the first of each, the second of each …"""
    turns = range(max(map(len, queues), default=0))
    return np.array([queue[turn] for turn in turns for queue in queues if turn < len(queue)], dtype=np.int64)
