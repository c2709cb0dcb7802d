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
        represents: fraction of the total weight in slices that look more like it than like any other chosen or outlined
            slice.
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
    return cover(distances, nearest, weight, count)


def cover(
    distances: npt.NDArray[np.floating[Any]], nearest: npt.NDArray[np.floating[Any]], weight: Weights, count: int
) -> list[Pick]:
    """Choose up to `count` items that bring the others near, most useful first.

    Args:
        distances: (N, N) from each item to choose (row) to each item to bring near (column).
        nearest: (N,) distance to the nearest item chosen before.
        weight: (N,) importance of each item being near.
        count: number of items.
    """

    def gain_of(index: int) -> float:
        return float(weight @ np.maximum(nearest - distances[index], 0.0))

    order: list[tuple[int, float]] = []
    owner = np.full(len(weight), -1)
    queue = [(-gain_of(i), i) for i in range(len(distances))]
    heapq.heapify(queue)
    while queue and len(order) < count:
        gain, index = -gain_of(queue[0][1]), queue[0][1]
        heapq.heapreplace(queue, (gain, index))
        if queue[0][1] != index:  # its gain was out of date; gains only fall, so the new first may be the largest
            continue
        heapq.heappop(queue)
        owner[distances[index] < nearest] = len(order)
        order.append((index, -gain))
        nearest = np.minimum(nearest, distances[index])
    return [Pick(index, gain, float(weight[owner == n].sum())) for n, (index, gain) in enumerate(order)]


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


def take_spread(queue: npt.NDArray[np.int64], first: int, step: int) -> npt.NDArray[np.int64]:
    """All items of a queue, each time the free one nearest to a fraction of `spread_fraction`: number `first`, then
    `first` + `step`, … Queues that take turns, `first` counting them and `step` their number, are spread together."""
    free = list(range(len(queue)))
    order = []
    for turn in range(len(queue)):
        wanted = spread_fraction(first + turn * step) * len(queue) - 0.5
        order.append(free.pop(int(np.argmin([abs(place - wanted) for place in free]))))
    return queue[order]


def take_turns(queues: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """The items of the queues in turn: the first of each, the second of each …"""
    turns = range(max(map(len, queues), default=0))
    return np.array([queue[turn] for turn in turns for queue in queues if turn < len(queue)], dtype=np.int64)
