"""The passes of a propagation: from each annotated slice towards the next, or to the end of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from frugalseg.errors import ScanError


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


def passes(annotated: Sequence[int], first: int, last: int) -> list[Pass]:
    """All passes from annotated slices within `first`…`last`; those without a slice to reach are left out."""
    marks = [first - 1, *sorted(annotated), last + 1]
    both = []
    for before, here, after in zip(marks, marks[1:], marks[2:], strict=False):
        both += [Pass(here, tuple(range(here + 1, after))), Pass(here, tuple(range(here - 1, before, -1)))]
    return [pass_ for pass_ in both if pass_.order]


def neighbours(z: int, annotated: Sequence[int]) -> list[int]:
    """The annotated slices on both sides of a slice, or on one: below first."""
    below, above = [a for a in annotated if a < z], [a for a in annotated if a > z]
    return below[-1:] + above[:1]


def annotated_slices(meant: npt.NDArray[np.bool_], named: Sequence[int], span: Sequence[int], case: str) -> list[int]:
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
            f"{case}: slice {empty[0]} holds no foreground; slices with some: {as_ranges(holding)}",
            "correct --slices; slices are counted from 0 at the inferior end",
        )
    chosen = list(named or holding)
    if outside := [z for z in chosen if not first <= z <= last]:
        raise ScanError(
            f"{case}: the annotated slice {outside[0]} is outside --range {first},{last}",
            "widen the range, or name the annotated slices within it by --slices",
        )
    if len(chosen) == last - first + 1 > 1:
        raise ScanError(
            f"{case}: all {len(chosen)} slices hold foreground, so there is nothing to carry",
            "name the annotated slices with --slices; the others are then not read",
        )
    return chosen


def as_ranges(slices: Sequence[int]) -> str:
    """Slices in words: 3–5, 9."""
    runs: list[list[int]] = []
    for z in sorted(slices):
        if runs and z == runs[-1][-1] + 1:
            runs[-1].append(z)
        else:
            runs.append([z])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
