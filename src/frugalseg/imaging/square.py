"""Resize slices of any shape to squares for the network, and map its output back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.imaging.likeliest import interpolated, resized_classes


@dataclass(frozen=True)
class Square:
    """The mapping between slices of H×W pixels and squares of S×S, which keeps the aspect ratio in mm.

    The longer side in mm fills the square; the other is padded with 0, equally on both sides, so that resizing
    commutes with flipping.

    Attributes:
        shape: H, W of the slices.
        spacing: mm between rows, mm between columns of the slices.
        size: S.
        inner: rows, columns of the square that the slice covers.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    size: int
    inner: tuple[int, int]

    @classmethod
    def fit(cls, shape_hw: tuple[int, ...], spacing_hw: tuple[float, float], size: int) -> Square:
        """The square for slices of `shape_hw` pixels of `spacing_hw` mm; `ValueError` unless all are above 0."""
        height, width = shape_hw
        if min(height, width, size, *spacing_hw) <= 0:
            raise ValueError(f"slices {height}×{width} of {spacing_hw} mm on a square of {size}: all must be above 0")
        sides_mm = (height * spacing_hw[0], width * spacing_hw[1])
        pads = [min(round((size - side * size / max(sides_mm)) / 2), (size - 1) // 2) for side in sides_mm]
        inner = (size - 2 * pads[0], size - 2 * pads[1])
        return cls((height, width), (float(spacing_hw[0]), float(spacing_hw[1])), size, inner)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Mm between rows and between columns of the square (nearly equal, since `inner` is rounded to pixels)."""
        return (
            self.shape[0] * self.spacing[0] / self.inner[0],
            self.shape[1] * self.spacing[1] / self.inner[1],
        )

    @property
    def own_size(self) -> int:
        """The size at which a pixel of the square is as large as one of the slices; a larger one shows no more."""
        sides_mm = (side * mm for side, mm in zip(self.shape, self.spacing, strict=True))
        return round(max(sides_mm) / min(self.spacing))

    @property
    def pads(self) -> tuple[int, int]:
        """Padding rows above (and below), padding columns left (and right)."""
        return (self.size - self.inner[0]) // 2, (self.size - self.inner[1]) // 2

    def resize_images(self, slices: Tensor) -> Tensor:
        """Slices (N, H, W), floating point, as squares (N, S, S): bilinear, anti-aliased when downsampling."""
        self._require_shape(slices.shape, (len(slices), *self.shape))
        return self._pad(interpolated(slices.unsqueeze(1), self.inner).squeeze(1))

    def resize_labels(self, slices: Tensor) -> Tensor:
        """Labels (N, H, W) of any type as squares (N, S, S) of that type: nearest pixel, padding 0."""
        self._require_shape(slices.shape, (len(slices), *self.shape))
        rows = _nearest_indices(self.shape[0], self.inner[0]).to(slices.device)
        columns = _nearest_indices(self.shape[1], self.inner[1]).to(slices.device)
        return self._pad(slices.index_select(1, rows).index_select(2, columns))

    def restore(self, probabilities: Tensor) -> Tensor:
        """Values on squares (N, C, S, S) as values on slices (N, C, H, W): bilinear, without the padding."""
        return interpolated(self._unpad(probabilities), self.shape)

    def classes(self, probabilities: Tensor) -> Tensor:
        """Probabilities of C classes on squares (N, C, S, S) as classes on the slices (N, H, W): uint8, 0 background.

        The likeliest ones of what `restore` gives, computed without it (see `imaging.likeliest`).
        """
        return resized_classes(self._unpad(probabilities), self.shape)

    def _unpad(self, planes: Tensor) -> Tensor:
        self._require_shape(planes.shape[2:], (self.size, self.size))
        top, left = self.pads
        return planes[:, :, top : top + self.inner[0], left : left + self.inner[1]]

    def _pad(self, inner: Tensor) -> Tensor:
        top, left = self.pads
        return F.pad(inner, (left, left, top, top))

    @staticmethod
    def _require_shape(shape: torch.Size, expected: tuple[int, ...]) -> None:
        if tuple(shape) != expected:
            raise ValueError(f"shape {tuple(shape)} given, {expected} expected")


def _nearest_indices(source: int, target: int) -> Tensor:
    """For each of `target` pixels, the index of the `source` pixel that contains its centre (PyTorch's nearest-exact).

    A centre on the border of two pixels takes the one nearer to the middle. Rounding up always would shift masks by
    half a pixel against their images when downsampling by an even factor, and resizing would not commute with flips.
    """
    doubled = 2 * torch.arange(target) + 1
    index = (doubled * source) // (2 * target)
    on_border = (doubled * source) % (2 * target) == 0
    return index - (on_border & (doubled > target)).long()
