"""Organs outlined one by one become one mask: each pixel goes to the organ with the highest score, or to none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SIGMA_MM = 3.0
"""Slices so far away count 0.6 of a slice itself where outlines are averaged over slices."""
MOST_NEIGHBOURS = 3
"""On each side: memory holds the outlines of so many slices."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What is thought of one organ in one slice.

    Attributes:
        probability: (H, W), above 0.5 is organ.
        score: (H, W), probability times how good the model thinks its mask is; decides between organs.
    """

    probability: Floats
    score: Floats

    def joined(self, other: Outline) -> Outline:
        """With another part of the same organ."""
        return Outline(np.maximum(self.probability, other.probability), np.maximum(self.score, other.score))


Outlines = Mapping[int, Outline]
"""Class → outline, of one slice."""


def fuse_labels(neighbours: Sequence[tuple[float, Outlines]], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The classes of a slice.

    Args:
        neighbours: weight and outlines of the slice and of those it is averaged with; a class that a slice does not
            have is nowhere in it.
        shape: H, W.

    Returns:
        (H, W), 0 background.
    """
    total = sum(weight for weight, _ in neighbours)
    winner = np.zeros(shape, dtype=np.uint8)
    highest = np.zeros(shape, dtype=np.float32)
    for number in sorted({number for _, outlines in neighbours for number in outlines}):
        probability, score = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for weight, outlines in neighbours:
            if number in outlines:
                probability += np.float32(weight / total) * outlines[number].probability
                score += np.float32(weight / total) * outlines[number].score
        wins = (probability > 0.5) & (score > highest)
        winner[wins], highest[wins] = number, score[wins]
    return winner


def weights_by_distance(thickness_mm: float) -> list[float]:
    """Weights of the slices 0, 1, 2, … away: a Gaussian in mm, cut off at two sigma."""
    reach = min(MOST_NEIGHBOURS, int(2 * SIGMA_MM / thickness_mm))
    return [float(np.exp(-((n * thickness_mm / SIGMA_MM) ** 2) / 2)) for n in range(reach + 1)]
