"""The largest component of a mask, found by its runs: of an organ there are a thousand times fewer than of voxels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Numbers = npt.NDArray[np.int64]


class Runs(NamedTuple):
    """Voxels of one class that follow each other along the last axis, in the order of the array.

    A voxel's place is its flat index in the array with an empty pixel before and after every row, and an empty row
    after every slice: places that touch then differ by the same offsets everywhere, and borders need no care.

    Attributes:
        begins, ends: (R,) places of the first voxel and of the one after the last.
        shape: of the array.
    """

    begins: Numbers
    ends: Numbers
    shape: tuple[int, int, int]

    @property
    def row(self) -> int:
        """Places from one row to the next."""
        return self.shape[2] + 2

    @property
    def plane(self) -> int:
        """Places from one slice to the next."""
        return (self.shape[1] + 1) * self.row


def find_runs(classes: npt.NDArray[np.uint8], number: int, most: int) -> Runs | None:
    """The runs of a class in (Z, H, W); None where there are more than `most`."""
    depth, height, width = classes.shape
    framed = np.zeros((height + 1, width + 2), dtype=bool)
    flat, found, changes = framed.ravel(), 0, []
    for z, plane in enumerate(classes):
        np.equal(plane, number, out=framed[:-1, 1:-1])
        changes.append(np.flatnonzero(flat[1:] != flat[:-1]) + (1 + z * framed.size))
        found += len(changes[-1]) // 2
        if found > most:
            return None
    places = np.concatenate(changes)
    return Runs(places[::2].copy(), places[1::2].copy(), (depth, height, width))


def find_components(runs: Runs) -> npt.NDArray[np.int32]:
    """(R,) the component of each run, numbered from 0 by their first voxels.

    Runs whose voxels touch by a face, an edge or a corner belong together.
    """
    offsets = (runs.row, runs.plane + runs.row, runs.plane, runs.plane - runs.row)
    pairs = np.concatenate([_touching(runs, offset) for offset in offsets], axis=1)
    graph = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(len(runs.begins),) * 2)
    components: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return components


def _touching(runs: Runs, offset: int) -> Numbers:
    """(2, P) pairs of runs, of which the second touches the first in the row that lies `offset` before it."""
    first = np.searchsorted(runs.ends, runs.begins - offset)
    counts = np.searchsorted(runs.begins, runs.ends - offset, side="right") - first
    later = np.repeat(np.arange(len(counts)), counts)
    earlier = np.arange(len(later)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    return np.stack([later, earlier])


def clear_runs(classes: npt.NDArray[np.uint8], runs: Runs, which: npt.NDArray[np.bool_]) -> None:
    """Set the voxels of the chosen runs (R,) to 0, in place."""
    begins, ends = runs.begins[which], runs.ends[which]
    slices = begins // runs.plane
    for z in np.unique(slices):
        here = slices == z
        steps = np.zeros(runs.plane, dtype=np.int8)
        steps[begins[here] - z * runs.plane] = 1
        steps[ends[here] - z * runs.plane] = -1
        inside: npt.NDArray[Any] = np.cumsum(steps, dtype=np.int8).reshape(-1, runs.row)[:-1, 1:-1]
        classes[z][inside.astype(bool)] = 0
