"""Test-time augmentation: probabilities averaged over flipped and slightly rotated slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.segmentation.losses import probabilities

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


class View(NamedTuple):
    """A way to show a slice: flipped, then rotated.

    Attributes:
        axes: that are flipped.
        degrees: of the rotation about the middle; 0 for none.
    """

    axes: tuple[int, ...] = ()
    degrees: float = 0.0

    def show(self, images: Tensor) -> Tensor:
        """The view of slices (N, C, S, S); what comes in from outside is 0, as the padding of slices is."""
        return _rotate(images.flip(self.axes), self.degrees)

    def undo(self, planes: Tensor) -> Tensor:
        """The planes of a view (N, C, S, S) on the slice's own pixels; 0 where the view did not show them."""
        return _rotate(planes, -self.degrees).flip(self.axes)


def list_views(flips: bool, degrees: float | None) -> list[View]:
    """The slice as it is, then its flips, and rotations of all these by ±`degrees`."""
    angles = (0.0,) if degrees is None else (0.0, degrees, -degrees)
    return [View(axes, angle) for angle in angles for axes in (FLIPS if flips else FLIPS[:1])]


def average_over(views: Sequence[View], network: nn.Module, images: Tensor) -> Tensor:
    """The mean of a network's probabilities (N, C, S, S) over views of slices.

    A corner that a rotation has turned out of the square has the mean of the other views.

    Args:
        views: the first of them shows every pixel.
        network: slices (N, I, S, S) → logits (N, C, S, S).
        images: the slices.
    """
    if len(views) == 1:
        return probabilities(network(images))
    inside = torch.ones_like(images[:1, :1], dtype=torch.float32)
    total, weight = torch.zeros_like(inside), torch.zeros_like(inside)
    for view in views:
        shown = view.show(inside)
        total = total + view.undo(shown * probabilities(network(view.show(images))))
        weight = weight + view.undo(shown)
    return total / weight


def _rotate(planes: Tensor, degrees: float) -> Tensor:
    """Planes (N, C, S, S) rotated about their middle, bilinear, with 0 from outside."""
    if not degrees:
        return planes
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]], device=planes.device, dtype=planes.dtype)
    grid = F.affine_grid(turn.expand(len(planes), 2, 3), list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
