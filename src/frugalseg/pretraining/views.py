"""Augmentation of slices, random in every step; two of them make two views of a slice."""

from __future__ import annotations

from collections.abc import Callable

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices
from frugalseg.pretraining.recipes import AugmentName


class StrongAugment(nn.Module):
    """Strong changes that suit CT: rotation, crop, brightness and contrast, blur, noise.

    SimCLR's (arXiv 2002.05709) without what a scan never shows: no flips, since organs have a side, no colour, and
    crops of half the area or more, since a patch of liver is no liver. Every image draws its own changes from
    PyTorch's generator. What comes in from outside the picture is 0, that is air.

    Args:
        size: side of the images in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.geometry = nn.Sequential(
            K.RandomRotation(15.0, p=0.8),
            K.RandomResizedCrop((size, size), scale=(0.5, 1.0), ratio=(0.9, 1.1), cropping_mode="resample"),
        )
        self.intensity = nn.Sequential(
            K.RandomBrightness((0.8, 1.2), p=0.8),
            K.RandomContrast((0.8, 1.2), p=0.8),
            K.RandomGaussianBlur((5, 5), (0.5, 1.5), p=0.5),
            K.RandomGaussianNoise(std=0.03, p=0.5),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → changed copies, in [0, 1]."""
        return self.recolour(self.move(images))

    def move(self, images: Tensor) -> Tensor:
        """Rotated and cropped copies."""
        moved: Tensor = self.geometry(images)
        return moved

    def recolour(self, images: Tensor) -> Tensor:
        """Copies of other intensities, everything in its place."""
        changed: Tensor = self.intensity(images)
        return changed.clamp(0, 1)


class LightAugment(nn.Module):
    """The light changes of `dataset.augment`, to images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("light")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → changed copies, in [0, 1]."""
        batch: Slices = self.augment(Slices(images, None))
        return batch.images


class SuperCLAugment(nn.Module):
    """SuperCL's changes as its code has them (arXiv 2504.14737, dataset/chd.py).

    Brightness is a factor of 0 to 1 on 8-bit pictures that are stretched again afterwards, so that it only takes
    grey levels away; flips and rotations turn organs to sides where they never lie.
    """

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("supercl")
        self.blur = K.RandomGaussianBlur((3, 3), (1.0, 3.0), p=1.0)

    def move(self, images: Tensor) -> Tensor:
        """Mirrored, bent, rotated and scaled copies."""
        return self.augment.move(Slices(images, None)).images

    def recolour(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → copies of other brightness and contrast, blurred, and stretched to [0, 1]."""
        factors = torch.rand(2, len(images), 1, 1, 1, device=images.device)
        dark = (images * factors[0] * 255).round() / 255
        mean = dark.mean(dim=(1, 2, 3), keepdim=True)
        changed: Tensor = self.blur((mean + (0.8 + 0.4 * factors[1]) * (dark - mean)).clamp(0, 1))
        low, high = changed.amin(dim=(1, 2, 3), keepdim=True), changed.amax(dim=(1, 2, 3), keepdim=True)
        return (changed - low) / (high - low).clamp(min=1e-6)


class ViewGroups(nn.Module):
    """SuperCL's two groups of views (arXiv 2504.14737): V1, V2 are I1, I2 moved.

    Args:
        changes: how pictures are recoloured and moved.
    """

    def __init__(self, augmentations: StrongAugment | SuperCLAugment) -> None:
        super().__init__()
        self.augmentations = augmentations

    def forward(self, images: Tensor) -> Tensor:
        """Four copies of B slices, (4B, C, S, S) → V1, V2, I1, I2 in [0, 1]."""
        in_place = self.augmentations.recolour(images[: len(images) // 2])
        return torch.cat([self.augmentations.move(in_place).clamp(0, 1), in_place])


AugmentMakers = dict[AugmentName, Callable[[int], nn.Module]]
"""Name → what makes random changes to images of this side; images in, changed images out."""

TWO_VIEWS: AugmentMakers = {"light": lambda size: LightAugment(), "strong": StrongAugment}
ONE_VIEW: AugmentMakers = {"none": lambda size: nn.Identity(), **TWO_VIEWS}
VIEW_GROUPS: AugmentMakers = {
    "strong": lambda size: ViewGroups(StrongAugment(size)),
    "published": lambda size: ViewGroups(SuperCLAugment()),
}


def make_views(images: Tensor, views: int, augmentations: nn.Module) -> Tensor:
    """(B, C, S, S) → (views·B, C, S, S): all first views, then all second ones, and so on."""
    changed: Tensor = augmentations(torch.cat([images] * views))
    return changed
