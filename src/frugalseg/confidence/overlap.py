"""Overlap of a mask with its reference, with another mask, or with the probabilities that it was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from frugalseg.masks.components import Bools

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Overlap:
    """Sums over the pixels of each slice of a scan.

    The other mask B may be soft: its pixels then count with their probability, and the Dice is the one to expect if the
    reference were drawn from the probabilities, up to the order of mean and ratio.

    Attributes:
        mask: (Z,) pixels of the mask A.
        shared: (Z,) those of them in B.
        other: (Z,) pixels of B.
    """

    mask: Floats
    shared: Floats
    other: Floats

    @classmethod
    def between(cls, a: Bools, b: Bools) -> Overlap:
        """Of two masks (Z, H, W)."""
        return cls(*(np.count_nonzero(pixels, axis=(1, 2)).astype(float) for pixels in (a, a & b, b)))

    @classmethod
    def from_confidence(cls, pixels: Floats, confidence: Floats) -> Overlap:
        """Of a mask whose slices have a confidence of their own; that of the scan is their mean, weighted by area.

        Args:
            pixels: (Z,) of the mask.
            confidence: (Z,) 0…1 of each slice.
        """
        return cls(pixels, pixels * confidence, pixels)

    @property
    def slices(self) -> npt.NDArray[np.intp]:
        """The slices that the mask shows."""
        return np.flatnonzero(self.mask)

    def dice_of_slices(self) -> Floats:
        """2|A∩B| / (|A|+|B|) of each of `slices`."""
        shown = self.slices
        dice: Floats = 2 * self.shared[shown] / (self.mask[shown] + self.other[shown])
        return dice

    def dice_of_scan(self) -> float:
        """The same over all slices; 0 for an empty mask."""
        total = float(self.mask.sum() + self.other.sum())
        return 2 * float(self.shared.sum()) / total if self.mask.any() else 0.0


def compare(masks: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8], organs: int) -> list[Overlap]:
    """The overlap of each of the classes 1…C between two volumes (Z, H, W)."""
    return [Overlap.between(masks == number, others == number) for number in range(1, organs + 1)]
