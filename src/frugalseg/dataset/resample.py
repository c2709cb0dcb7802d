"""Slices resampled at the places of a grid: images, labels and weights alike.

Coordinates are PyTorch's for `align_corners=False`: −1 and 1 are the outer edges of the slice, x runs to the right and
y down. A grid, (B, S, S, 2), holds for every pixel of the result the (x, y) that it is taken from.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.dataset.source import Slices


def pixel_centres(side: int, like: Tensor) -> Tensor:
    """(side,) coordinates of the pixels' centres, on the device and in the floating type of `like`."""
    return (2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1


def rotation(angle: Tensor) -> Tensor:
    """(B,) angles in radians → (B, 2, 2) matrices of the grid; a positive angle turns the picture clockwise."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, sine, -sine, cosine], dim=1).view(-1, 2, 2)


def affine(matrix: Tensor, place: Tensor) -> Tensor:
    """(B, 2, 2) and (B, 2) → (B, 2, 3), the map x ↦ matrix · x + place."""
    return torch.cat([matrix, place.unsqueeze(2)], dim=2)


def affine_grid(maps: Tensor, side: int) -> Tensor:
    """(B, 2, 3) affine maps of the coordinates → their grid, (B, side, side, 2).

    The same as `torch.nn.functional.affine_grid`, in a quarter of its time on a CPU.
    """
    centres = pixel_centres(side, maps)
    columns = centres[:, None] * maps[:, None, None, :, 0]
    rows = torch.addcmul(maps[:, None, None, :, 2], centres[:, None, None], maps[:, None, None, :, 1])
    return columns + rows


def resize_grid(grid: Tensor, side: int) -> Tensor:
    """The grid (B, S, S, 2) for maps of `side` pixels over the same slices, (B, side, side, 2)."""
    resized = F.interpolate(grid.movedim(-1, 1), (side, side), mode="bilinear", align_corners=False)
    return resized.movedim(1, -1)


def resample_images(images: Tensor, grid: Tensor) -> Tensor:
    """(B, C, S, S) images sampled bilinearly; 0 comes in from outside."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resample(batch: Slices, grid: Tensor) -> Slices:
    """Images and features sampled bilinearly, labels and weights at the nearest pixel.

    From outside comes 0 into the images, the features at the border into the features, and what is certainly
    background: label 0 of weight 1.
    """
    # Doubt is what is resampled, since outside it is 0.
    doubt = None if batch.weights is None else 1 - batch.weights
    maps = [one.float() for one in (batch.labels, doubt) if one is not None]
    images = resample_images(batch.images, grid)
    features = batch.features
    if features is not None:
        there = resize_grid(grid, features.shape[-1])
        features = F.grid_sample(features, there, mode="bilinear", padding_mode="border", align_corners=False)
    if not maps:
        return replace(batch, images=images, features=features)
    nearest = F.grid_sample(torch.stack(maps, dim=1), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    labels = None if batch.labels is None else nearest[:, 0].to(batch.labels.dtype)
    weights = None if doubt is None else 1 - nearest[:, -1]
    return replace(batch, images=images, labels=labels, weights=weights, features=features)
