"""Slices between two annotated ones are reached from both: what is believed of them in the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from frugalseg.sam.slice_state import Bools, Figures, SliceState


def fuse(first: SliceState, second: SliceState, distances: tuple[int, int]) -> SliceState:
    """One slice, reached from two annotated slices: beliefs averaged, the nearer slice's counting more.

    Where only one of the two has an object, that one decides: an organ that was annotated on both sides has
    hardly ended in between, and one annotated on one side is known from there alone.

    Args:
        first, second: the slice as either pass has it, with the same K objects.
        distances: in slices, to the annotated slice of each.
    """
    one = shares(distances, first.alive, second.alive)
    other = shares((distances[1], distances[0]), second.alive, first.alive)
    wide = [weight.astype(np.float32)[:, None, None] for weight in (one, other)]
    return SliceState(
        first.z,
        wide[0] * first.beliefs + wide[1] * second.beliefs,
        first.alive | second.alive,
        one * first.score + other * second.score,
        one * first.agreement + other * second.agreement,
        one * first.change + other * second.change,
    )


def shares(distances: tuple[int, int], alive: Bools, other: Bools) -> Figures:
    """Weight (K,) of what was propagated from `distances[0]` slices away; with that of the other it sums to 1."""
    near: npt.NDArray[np.float64] = np.full(len(alive), distances[1] / sum(distances))
    return np.where(alive == other, near, alive.astype(np.float64))
