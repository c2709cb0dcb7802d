"""What a model's probabilities say about its own mask: a confidence without a further pass of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.confidence.overlap import Floats, Overlap, compare
from frugalseg.imaging.likeliest import likeliest
from frugalseg.masks.components import Bools, filter_components
from frugalseg.options import Keep


class SoftSlices(NamedTuple):
    """The likeliest classes of N slices at the model's resolution, and their probabilities, on the model's device.

    Attributes:
        classes: (N, S, S) uint8, 0 background.
        probability: (N, S, S) float16, the highest of a foreground class: that of `classes` where it is not 0.
        totals: (N, C) sums of the probabilities of each class over each slice.
    """

    classes: Tensor
    probability: Tensor
    totals: Tensor

    @classmethod
    def of(cls, probabilities: Tensor) -> SoftSlices:
        """From probabilities (N, C, S, S) of the classes 1…C; the background has the rest."""
        classes = likeliest(1 - probabilities.sum(dim=1), probabilities.transpose(0, 1))
        return cls(classes, probabilities.amax(dim=1).half(), probabilities.sum(dim=(2, 3)))


@dataclass(frozen=True, eq=False)
class SoftMask:
    """The mask of a scan at the model's resolution, and the probabilities that it was made of.

    Attributes:
        classes: (Z, S, S) uint8, 0 background, after post-processing.
        probability, totals: see `SoftSlices`.
    """

    classes: npt.NDArray[np.uint8]
    probability: npt.NDArray[np.float16]
    totals: Floats

    @classmethod
    def join(cls, batches: Sequence[SoftSlices], keep: Sequence[Keep]) -> SoftMask:
        """From the slices of a scan, batch by batch, and the post-processing of each of the classes 1…C."""
        classes, probability, totals = (torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True))
        return cls(filter_components(classes, keep), probability, totals.astype(np.float64))

    def overlaps_with_probabilities(self) -> list[Overlap]:
        """The overlap of each organ's mask with its probabilities."""
        return [self._overlap(self.classes == number, number) for number in range(1, self.totals.shape[1] + 1)]

    def overlaps_with(self, reference: npt.NDArray[np.uint8]) -> list[Overlap]:
        """The overlap of each organ's mask with that of the reference (Z, S, S)."""
        return compare(self.classes, reference, self.totals.shape[1])

    def _overlap(self, mask: Bools, number: int) -> Overlap:
        inside: Floats = np.sum(self.probability, axis=(1, 2), where=mask, dtype=np.float64)
        return Overlap(np.count_nonzero(mask, axis=(1, 2)).astype(float), inside, self.totals[:, number - 1])
