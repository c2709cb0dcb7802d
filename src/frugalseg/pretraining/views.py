"""Random augmentation of slices; two draws make two views of a slice."""

from __future__ import annotations

from collections.abc import Callable

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices
from frugalseg.pretraining.recipes import AugmentName


class StrongAugment(nn.Module):
    """Strong augmentation for CT: rotation, crop, brightness and contrast, blur, noise.

    SimCLR's (arXiv 2002.05709) without what scans never show: no flips, since organs have a side, no colour, and
    crops of at least half the area, since a smaller one may lack the organ. Each image gets its own random parameters
    from PyTorch's generator. Pixels from outside the image are 0, that is air.

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
        """(B, C, S, S) in [0, 1] → augmented copies, in [0, 1]."""
        return self.recolour(self.move(images))

    def move(self, images: Tensor) -> Tensor:
        """Rotated and cropped copies."""
        moved: Tensor = self.geometry(images)
        return moved

    def recolour(self, images: Tensor) -> Tensor:
        """Copies with changed intensities and the same geometry."""
        changed: Tensor = self.intensity(images)
        return changed.clamp(0, 1)


class LightAugment(nn.Module):
    """The light augmentation of `dataset.augment`, of images only."""

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("light")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → augmented copies, in [0, 1]."""
        batch: Slices = self.augment(Slices(images, None))
        return batch.images


class SuperCLAugment(nn.Module):
    """SuperCL's augmentation as in its code (arXiv 2504.14737, dataset/chd.py).

    Brightness is a factor of 0 to 1 on 8-bit images that are rescaled to [0, 1] afterwards, so that it only removes
    grey levels; flips and rotations put organs on sides where they never are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("supercl")
        self.blur = K.RandomGaussianBlur((3, 3), (1.0, 3.0), p=1.0)

    def move(self, images: Tensor) -> Tensor:
        """Mirrored, deformed, rotated and scaled copies."""
        return self.augment.move(Slices(images, None)).images

    def recolour(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → copies of changed brightness and contrast, blurred, and rescaled to [0, 1]."""
        factors = torch.rand(2, len(images), 1, 1, 1, device=images.device)
        dark = (images * factors[0] * 255).round() / 255
        mean = dark.mean(dim=(1, 2, 3), keepdim=True)
        changed: Tensor = self.blur((mean + (0.8 + 0.4 * factors[1]) * (dark - mean)).clamp(0, 1))
        low, high = changed.amin(dim=(1, 2, 3), keepdim=True), changed.amax(dim=(1, 2, 3), keepdim=True)
        return (changed - low) / (high - low).clamp(min=1e-6)


class ViewGroups(nn.Module):
    """SuperCL's two groups of views (arXiv 2504.14737): V1, V2 are I1, I2 transformed spatially.

    Args:
        augmentation: changes the intensities and the geometry.
    """

    def __init__(self, augmentation: StrongAugment | SuperCLAugment) -> None:
        super().__init__()
        self.augmentation = augmentation

    def forward(self, images: Tensor) -> Tensor:
        """Four copies of B slices, (4B, C, S, S) → V1, V2, I1, I2 in [0, 1]."""
        in_place = self.augmentation.recolour(images[: len(images) // 2])
        return torch.cat([self.augmentation.move(in_place).clamp(0, 1), in_place])


AugmentMakers = dict[AugmentName, Callable[[int], nn.Module]]
"""Name → builder of a random augmentation of images, given their side in pixels."""

TWO_VIEWS: AugmentMakers = {"light": lambda size: LightAugment(), "strong": StrongAugment}
ONE_VIEW: AugmentMakers = {"none": lambda size: nn.Identity(), **TWO_VIEWS}
VIEW_GROUPS: AugmentMakers = {
    "strong": lambda size: ViewGroups(StrongAugment(size)),
    "published": lambda size: ViewGroups(SuperCLAugment()),
}


def make_views(images: Tensor, views: int, augmentation: nn.Module) -> Tensor:
    """(B, C, S, S) → (views·B, C, S, S): all first views, then all second ones, and so on."""
    changed: Tensor = augmentation(torch.cat([images] * views))
    return changed
