"""Slices of any shape as the square input images of a promptable model, with boxes and masks mapped in both directions.

Slices are in the usual radiological view, on which the models were trained: rows run to posterior, columns to the
patient's left, as in `imaging.volume.axial_slices(canonical(volume)[0].array)`. Rotated slices reduce the accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.promptable.protocol import Recipe


@dataclass(frozen=True)
class SquareFrame:
    """Maps between a slice of H×W pixels and the top left part of an image of S×S.

    Attributes:
        height, width: H, W of the slice.
        size: S.
        rows, columns: of the image that show the slice; the rest is padding.
    """

    height: int
    width: int
    size: int
    rows: int
    columns: int

    @classmethod
    def of(cls, shape: tuple[int, ...], recipe: Recipe) -> SquareFrame:
        """The frame of slices of `shape` (H, W) for a model; `ValueError` for sides under 2 pixels."""
        height, width = shape
        if min(height, width) < 2:
            raise ValueError(f"slices of {height}×{width} pixels: both sides must be 2 or more")
        size = recipe.size
        if recipe.fit == "square":
            return cls(height, width, size, size, size)
        # Rounded as by the authors of SAM; at least 2, so that a narrow slice does not vanish.
        scale = size / max(height, width)
        return cls(height, width, size, max(int(height * scale + 0.5), 2), max(int(width * scale + 0.5), 2))

    def to_model_input(self, slices: Tensor, recipe: Recipe) -> Tensor:
        """Slices as input images of the model.

        Args:
            slices: (B, H, W) floating point, windowed to [0, 1].
            recipe: the one given to `of`.

        Returns:
            (B, 3, S, S) float32, normalised; padding is 0 after normalising, as in the models' training.
        """
        self._check_shape(slices, (self.height, self.width))
        grey = slices.float()
        if recipe.levels == "8 bit":
            grey = (grey * 255).round() / 255
        grey = resize(grey, (self.rows, self.columns))
        if recipe.stretch:
            low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
            grey = (grey - low) / (high - low).clamp(min=1e-8)
        mean = torch.tensor(recipe.mean, device=grey.device).reshape(3, 1, 1)
        std = torch.tensor(recipe.std, device=grey.device).reshape(3, 1, 1)
        return self._pad((grey[:, None] * recipe.scale - mean) / std, 0.0)

    def boxes_to_model(self, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) x0, y0, x1, y1 in pixels of the slice, maxima exclusive, as float32 in pixels of the image."""
        across, down = self.columns / self.width, self.rows / self.height
        return boxes.float() * torch.tensor([across, down, across, down], device=boxes.device)

    def masks_to_model(self, masks: Tensor, outside: float = 0.0) -> Tensor:
        """Masks or their logits (N, H, W) on the image: (N, S, S) float32, bilinear, `outside` in the padding."""
        self._check_shape(masks, (self.height, self.width))
        return self._pad(resize(masks.float(), (self.rows, self.columns)), outside)

    def masks_to_slice(self, logits: Tensor) -> Tensor:
        """Logits (N, L, L) over the image, of any resolution L, on the slice: (N, H, W) float32, bilinear."""
        side = logits.shape[-1]
        self._check_shape(logits, (side, side))
        down, across = self.rows * side / self.size, self.columns * side / self.size
        cropped = logits[:, : math.ceil(down), : math.ceil(across)].float()
        # By factor, not by size: the border of the slice may fall within a pixel of the logits. The factor 1 + 1e-9
        # keeps an integer product from being rounded down, which would lose a row.
        factors = (self.height / down * (1 + 1e-9), self.width / across * (1 + 1e-9))
        grown = F.interpolate(cropped[:, None], scale_factor=factors, mode="bilinear", align_corners=False)
        return grown[:, 0, : self.height, : self.width]

    def _pad(self, planes: Tensor, value: float) -> Tensor:
        return F.pad(planes, (0, self.size - self.columns, 0, self.size - self.rows), value=value)

    @staticmethod
    def _check_shape(planes: Tensor, shape: tuple[int, int]) -> None:
        if planes.ndim != 3 or tuple(planes.shape[1:]) != shape:
            raise ValueError(f"shape {tuple(planes.shape)} given, expected (N, {shape[0]}, {shape[1]})")


def resize(planes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, h, w) → (N, *shape), bilinear between pixel centres, anti-aliased when shrinking."""
    here = (planes.shape[1], planes.shape[2])
    if here == shape:
        return planes
    shrinks = shape[0] < here[0] or shape[1] < here[1]
    resized = F.interpolate(planes[:, None], shape, mode="bilinear", align_corners=False, antialias=shrinks)
    return resized[:, 0]
