"""Which slices attract and which repel: the pair rules of PolyCL (arXiv 2505.19208, eqs. 1–3).

S(s) are the slices of the scan of s, and T(s) is the set of target organs present in s.

| method | positive | negative |
|---|---|---|
| polycl-o | any slice with T = T(s) | any slice with T ≠ T(s) |
| polycl-s | S(s) | any other scan |
| polycl-m | S(s) with T = T(s) | S(s) with T ≠ T(s) |
| random-pairs | any slice | any slice |

The anchor itself is never its positive. Every rule draws uniformly from a contiguous *run* of slices in one of two
sorted orders, except a contiguous *hole* inside it, so that a few array operations draw a whole epoch without retries:

    by organs:  … | T = {}: scan a, scan b, … | T = {liver}: scan a, scan b, … | …
    by scan:    … | scan a: T = {}, T = {liver}, … | scan b: … | …

Within one scan and one T, slices are sorted by z, so the slices closer to the anchor than min_dz are a hole too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from frugalseg.errors import SplitError

Ints = npt.NDArray[np.int64]
TripletRule = Literal["polycl-o", "polycl-s", "polycl-m", "random-pairs"]
NegScope = Literal["same", "other", "any"]

_SAME_ORGANS = "all slices show the same organs", "use --method polycl-s, or give more of each scan"
_NO_NEGATIVE_REASONS = {
    "polycl-s": ("there is only one scan", "train on more scans"),
    "random-pairs": ("there is only one slice", "give more slices"),
}


@dataclass(frozen=True)
class Triplets:
    """Rows of the store, each array of shape (anchors,)."""

    anchor: Ints
    positive: Ints
    negative: Ints

    def __len__(self) -> int:
        return len(self.anchor)

    def stack(self) -> Ints:
        """(anchors, 3): anchor, positive, negative."""
        return np.stack([self.anchor, self.positive, self.negative], axis=1)


@dataclass(frozen=True)
class _Range:
    """For each anchor a run [start, stop) of one order, except the hole [hole_start, hole_stop) inside it."""

    order: Ints
    start: Ints
    stop: Ints
    hole_start: Ints
    hole_stop: Ints

    @property
    def count(self) -> Ints:
        """How many slices there are to choose from."""
        return (self.stop - self.start) - (self.hole_stop - self.hole_start)

    def draw(self, rng: np.random.Generator) -> Ints:
        """One slice for each anchor, drawn uniformly; -1 where there is none."""
        count = self.count
        step = rng.integers(0, np.maximum(count, 1))
        place = self.start + step
        place += np.where(place >= self.hole_start, self.hole_stop - self.hole_start, 0)
        return np.where(count > 0, self.order[np.minimum(place, len(self.order) - 1)], -1)


class _Order:
    """Slices sorted by a major group, then a minor group, then z.

    Attributes:
        sorted: (N,) slices in this order.
        place: (N,) position of each slice in this order.
        start, stop: (N,) the run of each slice's major group.
        cell_start, cell_stop: (N,) the run of each slice's cell: its major and minor group together.
    """

    def __init__(self, major: Ints, minor: Ints, z_mm: npt.NDArray[np.float64]) -> None:
        self.sorted = np.lexsort((z_mm, minor, major))
        self.place = np.empty_like(self.sorted)
        self.place[self.sorted] = np.arange(len(major))
        self._minors = int(minor.max(initial=0)) + 1
        self._majors_sorted = major[self.sorted]
        self._cells_sorted = (major * self._minors + minor)[self.sorted]
        self._z_sorted = z_mm[self.sorted]
        self.start, self.stop = self.group_runs(major)
        self.cell_start, self.cell_stop = self.cell_runs(major, minor)

    def group_runs(self, major: Ints) -> tuple[Ints, Ints]:
        """The runs of these major groups."""
        return np.searchsorted(self._majors_sorted, major, "left"), np.searchsorted(self._majors_sorted, major, "right")

    def cell_runs(self, major: Ints, minor: Ints) -> tuple[Ints, Ints]:
        """The runs of these cells; empty where a cell holds no slice."""
        key = major * self._minors + minor
        return np.searchsorted(self._cells_sorted, key, "left"), np.searchsorted(self._cells_sorted, key, "right")

    def near_runs(self, min_dz: float) -> tuple[Ints, Ints]:
        """For each slice, the run of its cell closer than `min_dz` mm to it: at least the slice itself."""
        if min_dz <= 0:
            return self.place, self.place + 1
        # All cells on one axis with gaps between them, so that a search around a slice stays in its cell.
        lowest, highest = float(self._z_sorted.min()), float(self._z_sorted.max())
        axis = self._cells_sorted * (highest - lowest + 2 * min_dz + 1) + (self._z_sorted - lowest)
        own = axis[self.place]
        start = np.minimum(np.searchsorted(axis, own - min_dz, "right"), self.place)
        stop = np.maximum(np.searchsorted(axis, own + min_dz, "left"), self.place + 1)
        return start, stop


class PairTable:
    """The index tables of the pair rules, built once for a set of slices.

    Args:
        rows: rows of the store that may be drawn, shape (N,).
        scan: (N,) the scan of each, any integers.
        present: (N, organs) boolean, which organs each slice holds.
        z_mm: (N,) position of each along its scan in mm.
    """

    def __init__(self, rows: Ints, scan: Ints, present: npt.NDArray[np.bool_], z_mm: npt.NDArray[np.float64]) -> None:
        self.rows = rows
        self.scan = np.unique(scan, return_inverse=True)[1].astype(np.int64)
        self.organs = (
            np.unique(present, axis=0, return_inverse=True)[1].astype(np.int64).reshape(-1)
            if present.shape[1]
            else np.zeros(len(rows), np.int64)
        )
        self.z_mm = z_mm.astype(np.float64)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def by_organs(self) -> _Order:
        """Sorted by T, then scan, then z."""
        return _Order(self.organs, self.scan, self.z_mm)

    @cached_property
    def by_scan(self) -> _Order:
        """Sorted by scan, then T, then z."""
        return _Order(self.scan, self.organs, self.z_mm)

    @cached_property
    def by_height(self) -> _Order:
        """Sorted by scan, then z."""
        return _Order(self.scan, np.zeros_like(self.scan), self.z_mm)

    def draw(
        self,
        method: TripletRule,
        rng: np.random.Generator,
        neg_scope: NegScope = "same",
        min_dz: float = 0.0,
    ) -> Triplets:
        """One positive and one negative for every slice that can have both, drawn uniformly among those allowed.

        A slice without a possible positive (the only one of its scan; for -M the only one of its scan with its T) is
        not an anchor. For -M, where a scan has no slice of another T, the negative comes from another scan. `min_dz` is
        ignored for anchors that it would leave no positive.

        Args:
            method: the rule.
            rng: its state determines the draw.
            neg_scope: for -M: negatives from the anchor's own scan (eq. 3), from other scans, or from any.
            min_dz: minimum distance in mm between anchor and positive of the same scan.

        Raises:
            SplitError: no slice can have a negative (there is only one scan, or one T), or none a positive.
        """
        positive = self._positive_ranges(method, min_dz).draw(rng)
        negative = self._draw_negatives(method, neg_scope, rng)
        if (negative < 0).all():
            why, cure = _NO_NEGATIVE_REASONS.get(method, _SAME_ORGANS)
            raise SplitError(f"{method} finds no negative: {why}", cure)
        anchor = np.flatnonzero((positive >= 0) & (negative >= 0))
        if len(anchor) == 0:
            raise SplitError(
                f"{method} finds no positive: no two slices form a pair", "give scans of more than one slice"
            )
        return Triplets(self.rows[anchor], self.rows[positive[anchor]], self.rows[negative[anchor]])

    def _positive_ranges(self, method: TripletRule, min_dz: float) -> _Range:
        """Same T (-O), same scan (-S), both (-M), or any; except the anchor and slices closer than `min_dz`."""
        if method == "polycl-o":
            order, start, stop = self.by_organs, self.by_organs.start, self.by_organs.stop
        elif method == "polycl-s":
            order, start, stop = self.by_height, self.by_height.start, self.by_height.stop
        elif method == "random-pairs":
            order, start, stop = self.by_height, *self._whole_order()
        else:
            order, start, stop = self.by_scan, self.by_scan.cell_start, self.by_scan.cell_stop
        near_start, near_stop = order.near_runs(min_dz)
        waived = (stop - start) == (near_stop - near_start)
        hole_start = np.where(waived, order.place, near_start)
        hole_stop = np.where(waived, order.place + 1, near_stop)
        return _Range(order.sorted, start, stop, hole_start, hole_stop)

    def _draw_negatives(self, method: TripletRule, neg_scope: NegScope, rng: np.random.Generator) -> Ints:
        start, stop = self._whole_order()
        if method == "random-pairs":
            order = self.by_height
            return _Range(order.sorted, start, stop, order.place, order.place + 1).draw(rng)
        if method == "polycl-s":
            order = self.by_height
            return _Range(order.sorted, start, stop, order.start, order.stop).draw(rng)
        order = self.by_organs
        anywhere = _Range(order.sorted, start, stop, order.start, order.stop).draw(rng)
        if method == "polycl-o" or neg_scope == "any":
            return anywhere
        scoped = self._negatives_in_scan() if neg_scope == "same" else self._negatives_elsewhere(rng)
        found = scoped.draw(rng)
        return np.where(found >= 0, found, anywhere)

    def _whole_order(self) -> tuple[Ints, Ints]:
        """For each slice, the run of all slices of an order."""
        return np.zeros(len(self), np.int64), np.full(len(self), len(self), np.int64)

    def _negatives_in_scan(self) -> _Range:
        """S(s) with T ≠ T(s)."""
        order = self.by_scan
        return _Range(order.sorted, order.start, order.stop, order.cell_start, order.cell_stop)

    def _negatives_elsewhere(self, rng: np.random.Generator) -> _Range:
        """Other scans with T ≠ T(s): draws a T in proportion to its slices there; returns the run of that T."""
        scans, kinds = self.scan.max() + 1, self.organs.max() + 1
        held = np.bincount(self.scan * kinds + self.organs, minlength=scans * kinds).reshape(scans, kinds)
        elsewhere = held.sum(axis=0) - held[self.scan]
        elsewhere[np.arange(len(self)), self.organs] = 0
        up_to = elsewhere.cumsum(axis=1)
        pick = rng.integers(0, np.maximum(up_to[:, -1], 1))
        kind = np.minimum((pick[:, None] >= up_to).sum(axis=1), kinds - 1)
        start, stop = self.by_organs.group_runs(kind)
        hole_start, hole_stop = self.by_organs.cell_runs(kind, self.scan)
        nowhere = up_to[:, -1] == 0
        stop, hole_stop = np.where(nowhere, start, stop), np.where(nowhere, hole_start, hole_stop)
        return _Range(self.by_organs.sorted, start, stop, hole_start, hole_stop)
