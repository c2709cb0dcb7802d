"""Slices of any shape ↔ the square slices that networks see."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Square:
    """The geometry between a scan's slices (H, W) and squares (S, S).

    The longer physical side fills the square and the other is centred with zeros beside it, so a millimetre is
    as long in both directions. Make one with `fit`.

    Attributes:
        shape: (H, W) of the scan's slices.
        size: S.
        inner: (rows, columns) of the square that the slice fills.
        offset: row and column where it begins.
        pixel_spacing: height and width of a pixel of the square, mm.
    """

    shape: tuple[int, int]
    size: int
    inner: tuple[int, int]
    offset: tuple[int, int]
    pixel_spacing: tuple[float, float]

    @classmethod
    def fit(cls, shape: tuple[int, ...], spacing: tuple[float, float], size: int) -> Square:
        """The square of side `size` around slices of `shape` (H, W) pixels of `spacing` (row, column) mm."""
        height, width = shape
        extent = (height * spacing[0], width * spacing[1])
        inner = tuple(max(1, round(size * side / max(extent))) for side in extent)
        offset = tuple((size - side) // 2 for side in inner)
        pixel = tuple(side / pixels for side, pixels in zip(extent, inner, strict=True))
        return cls((height, width), size, (inner[0], inner[1]), (offset[0], offset[1]), (pixel[0], pixel[1]))

    def images(self, slices: Tensor) -> Tensor:
        """(N, H, W) float → (N, S, S): bilinear, smoothed where pixels become fewer; 0 around."""
        resized = F.interpolate(
            slices.unsqueeze(1), self.inner, mode="bilinear", align_corners=False, antialias=True
        ).squeeze(1)
        return self._pad(resized)

    def labels(self, slices: Tensor) -> Tensor:
        """(N, H, W) uint8 → (N, S, S) uint8: the nearest pixel's class; 0 around."""
        return self._pad(F.interpolate(slices.unsqueeze(1), self.inner, mode="nearest-exact").squeeze(1))

    def back(self, probabilities: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C, H, W): bilinear, from the part of the square that the slice fills."""
        (top, left), (rows, columns) = self.offset, self.inner
        region = probabilities[..., top : top + rows, left : left + columns].float()
        return F.interpolate(region, self.shape, mode="bilinear", align_corners=False)

    def _pad(self, inner: Tensor) -> Tensor:
        (top, left), (rows, columns) = self.offset, self.inner
        return F.pad(inner, (left, self.size - columns - left, top, self.size - rows - top))
