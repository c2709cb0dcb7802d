"""Random changes of slices, drawn anew every step; two of them make two views of a slice."""

from __future__ import annotations

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from frugalseg.contrast.recipes import Changes
from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices


class Views(nn.Module):
    """Strong changes that suit CT: rotation, crop, brightness and contrast, blur, noise.

    SimCLR's (arXiv 2002.05709) without what a scan never shows: no flips, since organs have a side, no colour, and
    crops of half the area or more, since a patch of liver is no liver. Every image draws its own changes from
    PyTorch's generator. What comes in from outside the picture is 0, that is air.

    Args:
        size: side of the images in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.pipeline = nn.Sequential(
            K.RandomRotation(15.0, p=0.8),
            K.RandomResizedCrop((size, size), scale=(0.5, 1.0), ratio=(0.9, 1.1), cropping_mode="resample"),
            K.RandomBrightness((0.8, 1.2), p=0.8),
            K.RandomContrast((0.8, 1.2), p=0.8),
            K.RandomGaussianBlur((5, 5), (0.5, 1.5), p=0.5),
            K.RandomGaussianNoise(std=0.03, p=0.5),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → changed copies, in [0, 1]."""
        changed: Tensor = self.pipeline(images)
        return changed.clamp(0, 1)


class Light(nn.Module):
    """The light changes of `dataset.augment`, to images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("light")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → changed copies, in [0, 1]."""
        batch: Slices = self.augment(Slices(images, None))
        return batch.images


def make_changes(kind: Changes, size: int) -> nn.Module:
    """The random changes called `kind` to images of this side; images in, changed images out."""
    if kind == "strong":
        return Views(size)
    return Light() if kind == "light" else nn.Identity()


def views_of(images: Tensor, views: int, changes: nn.Module) -> Tensor:
    """(B, C, S, S) → (views·B, C, S, S): all first views, then all second ones, each changed on its own."""
    changed: Tensor = changes(torch.cat([images] * views))
    return changed
