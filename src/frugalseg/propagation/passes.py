"""The passes of a propagation: from each annotated slice towards the next, or to the end of the volume."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import atomic_write
from frugalseg.errors import RunError, ScanError
from frugalseg.masks.components import Bools


@dataclass(frozen=True)
class Pass:
    """One direction of propagation: from an annotated slice to the one before the next annotated slice, or to the end.

    Attributes:
        start: the annotated slice.
        order: the slices to propagate to, nearest first; never empty.
    """

    start: int
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.start:04d}-to-{self.order[-1]:04d}"


def plan_passes(annotated: Sequence[int], first: int, last: int) -> list[Pass]:
    """All passes from annotated slices within `first`…`last`, except empty ones."""
    marks = [first - 1, *sorted(annotated), last + 1]
    planned = []
    for before, here, after in zip(marks, marks[1:], marks[2:], strict=False):
        planned += [Pass(here, tuple(range(here + 1, after))), Pass(here, tuple(range(here - 1, before, -1)))]
    return [pass_ for pass_ in planned if pass_.order]


def find_neighbours(z: int, annotated: Sequence[int]) -> list[int]:
    """The nearest annotated slices below and above a slice, as far as there are any, in this order."""
    below, above = [a for a in annotated if a < z], [a for a in annotated if a > z]
    return below[-1:] + above[:1]


def find_annotated_slices(
    foreground: npt.NDArray[np.bool_], named: Sequence[int], span: Sequence[int], case: str
) -> list[int]:
    """The annotated slices of a scan.

    Args:
        foreground: (Z, H, W), of the annotation.
        named: the slices named by the user; if empty, all slices with foreground.
        span: first and last slice of --slice-range, or empty.
        case: for messages.

    Raises:
        ScanError: no slice is annotated, or all are, or a slice is empty, missing, or outside the span.
    """
    holding = [int(z) for z in np.flatnonzero(foreground.any(axis=(1, 2)))]
    depth = len(foreground)
    first, last = span or (0, depth - 1)
    if not holding:
        raise ScanError(f"{case}: the annotation holds no foreground", "annotate a slice, or correct --target")
    if beyond := [z for z in (*named, *span) if z >= depth]:
        raise ScanError(f"{case}: there is no slice {beyond[0]}, only slices 0…{depth - 1}", "correct the number")
    if empty := [z for z in named if z not in holding]:
        raise ScanError(
            f"{case}: slice {empty[0]} holds no foreground; slices with some: {format_ranges(holding)}",
            "correct --slices; slices are counted from 0 at the inferior end",
        )
    chosen = list(named or holding)
    if outside := [z for z in chosen if not first <= z <= last]:
        raise ScanError(
            f"{case}: the annotated slice {outside[0]} is outside --slice-range {first},{last}",
            "widen the range, or name annotated slices within it with --slices",
        )
    if len(chosen) == last - first + 1 > 1:
        raise ScanError(
            f"{case}: all {len(chosen)} slices hold foreground, so there is nothing to propagate",
            "name the annotated slices with --slices; the others are then ignored",
        )
    return chosen


def format_ranges(slices: Sequence[int]) -> str:
    """Slices as text: 3–5, 9."""
    runs: list[list[int]] = []
    for z in sorted(slices):
        if runs and z == runs[-1][-1] + 1:
            runs[-1].append(z)
        else:
            runs.append([z])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def fuse_states(first: SliceState, second: SliceState, distances: tuple[int, int]) -> SliceState:
    """Fuse a slice that two passes reached: an average of their beliefs, weighted towards the nearer annotated slice.

    Where only one pass still has an object, its belief is used: an organ annotated on both sides is unlikely to be
    absent in between, and an organ annotated on one side only is known from that side.

    Args:
        first, second: the slice in either pass, with the same K objects.
        distances: of the slice to the annotated slice of either pass, in slices.
    """
    weight = fusion_weights(distances, first.alive, second.alive)
    rest = fusion_weights((distances[1], distances[0]), second.alive, first.alive)
    wide = [share.astype(np.float32)[:, None, None] for share in (weight, rest)]
    return SliceState(
        first.z,
        wide[0] * first.beliefs + wide[1] * second.beliefs,
        first.alive | second.alive,
        weight * first.score + rest * second.score,
        weight * first.agreement + rest * second.agreement,
        weight * first.change + rest * second.change,
    )


def fusion_weights(distances: tuple[int, int], alive: Bools, other: Bools) -> Figures:
    """Weight (K,) of the pass whose annotated slice is `distances[0]` away; the weights of both passes sum to 1."""
    near: npt.NDArray[np.float64] = np.full(len(alive), distances[1] / sum(distances))
    return np.where(alive == other, near, alive.astype(np.float64))


Beliefs = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]

BELIEF_LIMIT = 4.0
"""Beliefs lie in ±4."""
STEPS_PER_UNIT = 31
"""Quantisation steps per unit, so that a stored belief takes one byte."""


@dataclass(frozen=True, eq=False)
class SliceState:
    """K objects in one slice.

    Attributes:
        z: the slice.
        beliefs: (K, H, W) in ±`BELIEF_LIMIT`; a pixel belongs to the object of the highest belief above 0.
        alive: (K,) whether the object is still present; if not, its beliefs are −`BELIEF_LIMIT` everywhere.
        score: (K,) the quality that the model predicts for its mask, 0…1.
        agreement: (K,) IoU of the model's own mask with the final mask.
        change: (K,) IoU of the final mask with the mask expected from the slice before.
    """

    z: int
    beliefs: Beliefs
    alive: Bools
    score: Figures
    agreement: Figures
    change: Figures

    @classmethod
    def from_annotation(cls, z: int, masks: Bools) -> SliceState:
        """The state of an annotated slice with masks (K, H, W)."""
        sure = np.ones(len(masks))
        beliefs = np.where(masks, BELIEF_LIMIT, -BELIEF_LIMIT).astype(np.float32)
        return cls(z, beliefs, are_nonempty(masks), sure, sure, sure)

    @classmethod
    def empty(cls, z: int, shape: tuple[int, ...]) -> SliceState:
        """The state of a slice without objects; `shape` is K, H, W."""
        beliefs = np.full(shape, -BELIEF_LIMIT, dtype=np.float32)
        return cls(z, beliefs, np.zeros(shape[0], bool), *(np.zeros(shape[0]) for _ in range(3)))

    def masks(self) -> Bools:
        """(K, H, W), disjoint."""
        highest = self.beliefs.argmax(axis=0)
        masks: Bools = (self.beliefs > 0) & (highest == np.arange(len(self.beliefs))[:, None, None])
        return masks

    def save(self, path: Path) -> None:
        """Write the state to a file, atomically; beliefs are rounded (see `rounded`)."""
        stored = {name: getattr(self, name) for name in ("alive", "score", "agreement", "change")}
        with atomic_write(path) as file:
            np.savez_compressed(file, z=np.int64(self.z), beliefs=_to_bytes(self.beliefs), **stored)

    @classmethod
    def load(cls, path: Path) -> SliceState:
        """Read a saved state.

        Raises:
            RunError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                figures = [stored[name] for name in ("alive", "score", "agreement", "change")]
                return cls(int(stored["z"]), _from_bytes(stored["beliefs"]), *figures)
        except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(
                f"{path} is damaged ({error})",
                f"delete the folder {path.parents[1]}, then rerun with --resume to propagate the scan again",
            ) from error

    def rounded(self) -> SliceState:
        """The state as after `save` and `load`; every step starts from it, so a resumed run gives the same masks."""
        figures = (self.alive, self.score, self.agreement, self.change)
        return SliceState(self.z, _from_bytes(_to_bytes(self.beliefs)), *figures)


def are_nonempty(masks: Bools) -> Bools:
    """Which of masks (K, H, W) are not empty: (K,)."""
    held: Bools = np.logical_or.reduce(masks.reshape(len(masks), -1), axis=1)
    return held


def _to_bytes(beliefs: Beliefs) -> npt.NDArray[np.int8]:
    stored: npt.NDArray[np.int8] = np.rint(beliefs.clip(-BELIEF_LIMIT, BELIEF_LIMIT) * STEPS_PER_UNIT).astype(np.int8)
    return stored


def _from_bytes(stored: npt.NDArray[np.int8]) -> Beliefs:
    return stored.astype(np.float32) / np.float32(STEPS_PER_UNIT)
