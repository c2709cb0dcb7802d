"""Masks of one slice as closed contours, and back, without changing a voxel.

A contour runs halfway between the centres of voxels inside and outside (marching squares at 0.5), so that no centre
lies on it; a voxel is inside where its centre is enclosed by an odd number of contours. Holes are joined to the contour
around them by a channel without width, as DICOM (PS3.3 C.8.8.6.3) wants it; readers that fill every contour by itself
and those that combine contours by exclusive or then agree.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]


def find_outlines(mask: Bools) -> list[Points]:
    """The closed contours of a mask (rows, columns), each (N, 2) as row and column; the last point is not repeated."""
    from skimage.measure import find_contours

    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    first = rows[0], columns[0]
    framed = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float32)
    rings = [_drop_collinear(ring[:-1] - 1 + first) for ring in find_contours(framed, 0.5)]
    outer = [ring for ring in rings if _signed_area(ring) < 0]
    for hole in sorted((ring for ring in rings if _signed_area(ring) >= 0), key=_leftmost):
        around = min(
            (i for i, ring in enumerate(outer) if _encloses(ring, hole[0])),
            key=lambda i: abs(_signed_area(outer[i])),
        )
        outer[around] = _join_hole(outer[around], hole)
    return outer


def _leftmost(ring: Points) -> float:
    return float(ring[:, 1].min())


def _signed_area(ring: Points) -> float:
    rows, columns = ring.T
    return float(np.sum(rows * np.roll(columns, -1) - columns * np.roll(rows, -1))) / 2


def _drop_collinear(ring: Points) -> Points:
    """The ring without points between two others on one line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    kept: Points = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return kept


def _encloses(ring: Points, point: Points) -> bool:
    (row, column), following = point, np.roll(ring, -1, axis=0)
    crosses = (ring[:, 0] <= row) != (following[:, 0] <= row)
    low, high = ring[crosses], following[crosses]
    at = low[:, 1] + (row - low[:, 0]) * (high[:, 1] - low[:, 1]) / (high[:, 0] - low[:, 0])
    return bool(np.count_nonzero(at > column) % 2)


def _join_hole(ring: Points, hole: Points) -> Points:
    """The ring that goes to the hole and back where the two are nearest."""
    distances = np.linalg.norm(ring[:, None] - hole[None], axis=2)
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.roll(hole, -int(j), axis=0)
    return np.concatenate([ring[: i + 1], around, around[:1], ring[i:]])


def fill_outlines(outlines: Iterable[Points], shape: tuple[int, int]) -> Bools:
    """The pixels (rows, columns) whose centres an odd number of contours encloses, each (N, 2) as row and column."""
    toggles = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for ring in outlines:
        _toggle(toggles, ring)
    inside: Bools = np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1].astype(bool)
    return inside


def _toggle(toggles: npt.NDArray[np.uint8], ring: Points) -> None:
    """Mark where each row of pixel centres crosses a contour: at the first centre beyond."""
    start, end = ring, np.roll(ring, -1, axis=0)
    first = np.ceil(np.minimum(start[:, 0], end[:, 0])).astype(int).clip(0, len(toggles))
    last = np.ceil(np.maximum(start[:, 0], end[:, 0])).astype(int).clip(0, len(toggles))
    counts = last - first
    edge = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (end[edge, 1] - start[edge, 1]) / (end[edge, 0] - start[edge, 0])
    columns = np.ceil(start[edge, 1] + (rows - start[edge, 0]) * slope).astype(int).clip(0, toggles.shape[1] - 1)
    np.bitwise_xor.at(toggles, (rows, columns), np.uint8(1))
