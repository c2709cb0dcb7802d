"""Slices of any shape become squares for the network, and its output is mapped back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.imaging.likeliest import interpolated, resized_classes


@dataclass(frozen=True)
class Square:
    """The way between slices of H×W pixels and squares of S×S, the anatomy's aspect in mm kept.

    The longer side in mm fills the square, the other is padded evenly with 0. The padding is the same on both
    sides, so flipping before or after is the same.

    Attributes:
        shape: H, W of the slices.
        spacing: mm between rows, mm between columns of the slices.
        size: S.
        inner: rows, columns of the square that show the slice.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    size: int
    inner: tuple[int, int]

    @classmethod
    def fit(cls, shape_hw: tuple[int, ...], spacing_hw: tuple[float, float], size: int) -> Square:
        """The square for slices of `shape_hw` pixels of `spacing_hw` mm; `ValueError` for sizes not above 0."""
        height, width = shape_hw
        if min(height, width, size, *spacing_hw) <= 0:
            raise ValueError(f"slices {height}×{width} of {spacing_hw} mm on a square of {size}: all must be above 0")
        sides_mm = (height * spacing_hw[0], width * spacing_hw[1])
        pads = [min(round((size - side * size / max(sides_mm)) / 2), (size - 1) // 2) for side in sides_mm]
        inner = (size - 2 * pads[0], size - 2 * pads[1])
        return cls((height, width), (float(spacing_hw[0]), float(spacing_hw[1])), size, inner)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Mm between rows and between columns of the square (nearly equal: rows and columns are whole)."""
        return (
            self.shape[0] * self.spacing[0] / self.inner[0],
            self.shape[1] * self.spacing[1] / self.inner[1],
        )

    @property
    def pads(self) -> tuple[int, int]:
        """Empty rows above (and below), empty columns left (and right)."""
        return (self.size - self.inner[0]) // 2, (self.size - self.inner[1]) // 2

    def images(self, slices: Tensor) -> Tensor:
        """Slices (N, H, W), floating point, as squares (N, S, S): bilinear, anti-aliased where they shrink."""
        self._require(slices.shape, (len(slices), *self.shape))
        return self._padded(interpolated(slices.unsqueeze(1), self.inner).squeeze(1))

    def labels(self, slices: Tensor) -> Tensor:
        """Labels (N, H, W) of any type as squares (N, S, S) of that type: nearest pixel, padding 0."""
        self._require(slices.shape, (len(slices), *self.shape))
        rows = _nearest(self.shape[0], self.inner[0]).to(slices.device)
        columns = _nearest(self.shape[1], self.inner[1]).to(slices.device)
        return self._padded(slices.index_select(1, rows).index_select(2, columns))

    def back(self, probabilities: Tensor) -> Tensor:
        """Values on squares (N, C, S, S) as values on the slices (N, C, H, W): bilinear, from within the padding."""
        return interpolated(self._unpadded(probabilities), self.shape)

    def classes(self, probabilities: Tensor) -> Tensor:
        """Probabilities of C classes on squares (N, C, S, S) as classes on the slices (N, H, W): uint8, 0 background.

        The likeliest ones of what `back` gives, found without it (see `imaging.likeliest`).
        """
        return resized_classes(self._unpadded(probabilities), self.shape)

    def _unpadded(self, planes: Tensor) -> Tensor:
        self._require(planes.shape[2:], (self.size, self.size))
        top, left = self.pads
        return planes[:, :, top : top + self.inner[0], left : left + self.inner[1]]

    def _padded(self, inner: Tensor) -> Tensor:
        top, left = self.pads
        return F.pad(inner, (left, left, top, top))

    @staticmethod
    def _require(shape: torch.Size, expected: tuple[int, ...]) -> None:
        if tuple(shape) != expected:
            raise ValueError(f"shape {tuple(shape)} given, {expected} expected")


def _nearest(source: int, target: int) -> Tensor:
    """For each of `target` pixels, the one of `source` pixels its centre falls into (as PyTorch's nearest-exact).

    A centre on the border of two goes to the one nearer to the middle: rounding always up would shift every mask of
    an even shrinking by half a pixel against its image, and make flips matter.
    """
    doubled = 2 * torch.arange(target) + 1
    index = (doubled * source) // (2 * target)
    on_border = (doubled * source) % (2 * target) == 0
    return index - (on_border & (doubled > target)).long()
