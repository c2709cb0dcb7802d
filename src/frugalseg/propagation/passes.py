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


@dataclass(frozen=True)
class Pass:
    """One direction of propagation: from an annotated slice to the last before the next, or to the end.

    Attributes:
        start: the annotated slice.
        order: the slices reached, nearest first; never empty.
    """

    start: int
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.start:04d}-to-{self.order[-1]:04d}"


def plan_passes(annotated: Sequence[int], first: int, last: int) -> list[Pass]:
    """All passes from annotated slices within `first`…`last`; those without a slice to reach are left out."""
    marks = [first - 1, *sorted(annotated), last + 1]
    both = []
    for before, here, after in zip(marks, marks[1:], marks[2:], strict=False):
        both += [Pass(here, tuple(range(here + 1, after))), Pass(here, tuple(range(here - 1, before, -1)))]
    return [pass_ for pass_ in both if pass_.order]


def find_neighbours(z: int, annotated: Sequence[int]) -> list[int]:
    """The annotated slices on both sides of a slice, or on one: below first."""
    below, above = [a for a in annotated if a < z], [a for a in annotated if a > z]
    return below[-1:] + above[:1]


def find_annotated_slices(
    meant: npt.NDArray[np.bool_], named: Sequence[int], span: Sequence[int], case: str
) -> list[int]:
    """The annotated slices of a scan.

    Args:
        meant: (Z, H, W) foreground of the annotation.
        named: those the user named; where there are none, all that hold foreground.
        span: first and last slice to work on, or nothing.
        case: for messages.

    Raises:
        ScanError: nothing is annotated, everything is, or a slice is empty, not there, or outside the span.
    """
    holding = [int(z) for z in np.flatnonzero(meant.any(axis=(1, 2)))]
    depth = len(meant)
    first, last = span or (0, depth - 1)
    if not holding:
        raise ScanError(f"{case}: the annotation holds no foreground", "annotate a slice, or correct --target")
    if beyond := [z for z in (*named, *span) if z >= depth]:
        raise ScanError(f"{case}: slice {beyond[0]} is not there, only 0…{depth - 1} are", "correct the number")
    if empty := [z for z in named if z not in holding]:
        raise ScanError(
            f"{case}: slice {empty[0]} holds no foreground; slices with some: {format_ranges(holding)}",
            "correct --slices; slices are counted from 0 at the inferior end",
        )
    chosen = list(named or holding)
    if outside := [z for z in chosen if not first <= z <= last]:
        raise ScanError(
            f"{case}: the annotated slice {outside[0]} is outside --slice-range {first},{last}",
            "widen the range, or name the annotated slices within it by --slices",
        )
    if len(chosen) == last - first + 1 > 1:
        raise ScanError(
            f"{case}: all {len(chosen)} slices hold foreground, so there is nothing to propagate",
            "name the annotated slices with --slices; the others are then not read",
        )
    return chosen


def format_ranges(slices: Sequence[int]) -> str:
    """Slices in words: 3–5, 9."""
    runs: list[list[int]] = []
    for z in sorted(slices):
        if runs and z == runs[-1][-1] + 1:
            runs[-1].append(z)
        else:
            runs.append([z])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def fuse_states(first: SliceState, second: SliceState, distances: tuple[int, int]) -> SliceState:
    """One slice, reached from two annotated slices: beliefs averaged, the nearer slice's counting more.

    Where only one of the two has an object, that one decides: an organ that was annotated on both sides has
    hardly ended in between, and one annotated on one side is known from there alone.

    Args:
        first, second: the slice as either pass has it, with the same K objects.
        distances: in slices, to the annotated slice of each.
    """
    one = fusion_weights(distances, first.alive, second.alive)
    other = fusion_weights((distances[1], distances[0]), second.alive, first.alive)
    wide = [weight.astype(np.float32)[:, None, None] for weight in (one, other)]
    return SliceState(
        first.z,
        wide[0] * first.beliefs + wide[1] * second.beliefs,
        first.alive | second.alive,
        one * first.score + other * second.score,
        one * first.agreement + other * second.agreement,
        one * first.change + other * second.change,
    )


def fusion_weights(distances: tuple[int, int], alive: Bools, other: Bools) -> Figures:
    """Weight (K,) of what was propagated from `distances[0]` slices away; with that of the other it sums to 1."""
    near: npt.NDArray[np.float64] = np.full(len(alive), distances[1] / sum(distances))
    return np.where(alive == other, near, alive.astype(np.float64))


Beliefs = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BELIEF_LIMIT = 4.0
"""Beliefs lie in ±4."""
STEPS_PER_UNIT = 31
"""Steps a unit in which they are kept, one byte each."""


@dataclass(frozen=True, eq=False)
class SliceState:
    """K objects in one slice.

    Attributes:
        z: the slice.
        beliefs: (K, H, W) in ±`BELIEF_LIMIT`; above 0 is object, where no other object's is higher.
        alive: (K,) whether the object is still there; its beliefs are −`BELIEF_LIMIT` everywhere where it is not.
        score: (K,) how good the model thinks its mask is, 0…1.
        agreement: (K,) overlap (IoU) of the model's own mask with the one that was settled on.
        change: (K,) overlap (IoU) of that with what was expected from the slice before.
    """

    z: int
    beliefs: Beliefs
    alive: Bools
    score: Figures
    agreement: Figures
    change: Figures

    @classmethod
    def from_annotation(cls, z: int, masks: Bools) -> SliceState:
        """An annotated slice, (K, H, W)."""
        sure = np.ones(len(masks))
        beliefs = np.where(masks, BELIEF_LIMIT, -BELIEF_LIMIT).astype(np.float32)
        return cls(z, beliefs, are_nonempty(masks), sure, sure, sure)

    @classmethod
    def empty(cls, z: int, shape: tuple[int, ...]) -> SliceState:
        """No object in a slice; `shape` is K, H, W."""
        beliefs = np.full(shape, -BELIEF_LIMIT, dtype=np.float32)
        return cls(z, beliefs, np.zeros(shape[0], bool), *(np.zeros(shape[0]) for _ in range(3)))

    def masks(self) -> Bools:
        """(K, H, W), no pixel in two of them."""
        highest = self.beliefs.argmax(axis=0)
        masks: Bools = (self.beliefs > 0) & (highest == np.arange(len(self.beliefs))[:, None, None])
        return masks

    def save(self, path: Path) -> None:
        """Keep it, whole or not at all; beliefs are rounded (see `rounded`)."""
        stored = {name: getattr(self, name) for name in ("alive", "score", "agreement", "change")}
        with atomic_write(path) as file:
            np.savez_compressed(file, z=np.int64(self.z), beliefs=_to_bytes(self.beliefs), **stored)

    @classmethod
    def load(cls, path: Path) -> SliceState:
        """What was saved.

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
                f"delete the folder {path.parents[1]}, and give --resume: the scan is propagated again",
            ) from error

    def rounded(self) -> SliceState:
        """As it would be after `save` and `load`: what every next step starts from, so that a resumed run is exact."""
        figures = (self.alive, self.score, self.agreement, self.change)
        return SliceState(self.z, _from_bytes(_to_bytes(self.beliefs)), *figures)


def are_nonempty(masks: Bools) -> Bools:
    """Which of masks (K, H, W) hold a pixel: (K,)."""
    held: Bools = np.logical_or.reduce(masks.reshape(len(masks), -1), axis=1)
    return held


def _to_bytes(beliefs: Beliefs) -> npt.NDArray[np.int8]:
    stored: npt.NDArray[np.int8] = np.rint(beliefs.clip(-BELIEF_LIMIT, BELIEF_LIMIT) * STEPS_PER_UNIT).astype(np.int8)
    return stored


def _from_bytes(stored: npt.NDArray[np.int8]) -> Beliefs:
    return stored.astype(np.float32) / np.float32(STEPS_PER_UNIT)
