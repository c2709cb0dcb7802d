"""Random augmentation of slices; two draws make two views of a slice."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from frugalseg.dataset.augment import Augment, blur_and_add_noise, brightness_then_contrast, change_intensity
from frugalseg.dataset.blur import NO_BLUR, blur
from frugalseg.dataset.random_changes import Parameter, RandomChange, draw
from frugalseg.dataset.resample import affine, affine_grid, resample_images, rotation
from frugalseg.dataset.source import Slices
from frugalseg.pretraining.recipes import AugmentName

CROP = RandomChange(1.0, (Parameter("area", 0.5, 1.0), Parameter("log_ratio", math.log(0.9), math.log(1.1))))
"""A crop's area as a share of the slice, and the logarithm of width / height."""
CROPS_TRIED = 10
PLACE = (
    RandomChange(0.8, (Parameter("angle", -15.0, 15.0),)),
    RandomChange(1.0, (Parameter("x", -1.0, 1.0), Parameter("y", -1.0, 1.0))),
)
"""Rotation in degrees, and where the crop lies between the left and upper border, −1, and the opposite one, 1."""
INTENSITY = (
    RandomChange(0.8, (Parameter("brightness", -0.2, 0.2),)),
    RandomChange(0.8, (Parameter("contrast", 0.8, 1.2, neutral=1.0),)),
    RandomChange(0.5, (Parameter("sigma", 0.5, 1.5, neutral=NO_BLUR),)),
    RandomChange(0.5, (Parameter("noise", 0.03, 0.03),)),
)


class StrongAugment(nn.Module):
    """Strong augmentation for CT: rotation, crop, brightness and contrast, blur, noise.

    SimCLR's (arXiv 2002.05709) without what scans never show: no flips, since organs have a side, no colour, and
    crops of at least half the area, since a smaller one may lack the organ. Each image gets its own random parameters
    from PyTorch's generator. Pixels from outside the image are 0, that is air.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → augmented copies, in [0, 1]."""
        return self.recolour(self.move(images))

    def move(self, images: Tensor) -> Tensor:
        """Rotated and cropped copies, in one resampling."""
        extent = draw_crops(len(images), images.device)
        drawn = draw(PLACE, len(images), images.device)
        place = torch.stack([drawn["x"], drawn["y"]], dim=1)
        maps = rotated_crop(drawn["angle"], extent, place)
        return resample_images(images, affine_grid(maps, images.shape[-1]))

    def recolour(self, images: Tensor) -> Tensor:
        """Copies with changed intensities and the same geometry."""
        drawn = draw(INTENSITY, len(images), images.device)
        changed = change_intensity(images, brightness_then_contrast(drawn))
        return blur_and_add_noise(changed, drawn["sigma"], drawn["noise"])


def draw_crops(count: int, device: torch.device) -> Tensor:
    """(count, 2) width and height of crops as shares of the side: of ten drawn for each slice the first that fits into
    it; where none does, the first drawn, cut to the slice."""
    drawn = draw((CROP,), count * CROPS_TRIED, device)
    log_area, log_ratio = (value.view(count, CROPS_TRIED) for value in (drawn["area"].log(), drawn["log_ratio"]))
    extents = torch.stack([log_area + log_ratio, log_area - log_ratio], dim=2).div(2).exp()
    fits = (extents <= 1).all(dim=2)
    first = fits.int().argmax(dim=1)
    return extents.gather(1, first[:, None, None].expand(-1, 1, 2)).squeeze(1).clamp(max=1)


def rotated_crop(angle: Tensor, extent: Tensor, place: Tensor) -> Tensor:
    """The map (B, 2, 3), see `dataset.resample`, of a slice that is rotated about its middle, cropped and enlarged.

    Args:
        angle: (B,) in degrees; positive turns what is seen clockwise.
        extent: (B, 2) width and height of the crop as shares of the side.
        place: (B, 2) x and y from −1, at the left and upper border, to 1, at the opposite one.
    """
    turn = rotation(angle.deg2rad())
    middle = (1 - extent) * place
    return affine(turn * extent[:, None, :], (turn @ middle.unsqueeze(2)).squeeze(2))


class LightAugment(nn.Module):
    """The light augmentation of `dataset.augment`, of images only."""

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("light")

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → augmented copies, in [0, 1]."""
        batch: Slices = self.augment(Slices(images, None))
        return batch.images


PUBLISHED_INTENSITY = (
    RandomChange(1.0, (Parameter("brightness", 0.0, 1.0),)),
    RandomChange(1.0, (Parameter("contrast", 0.8, 1.2),)),
    RandomChange(1.0, (Parameter("sigma", 1.0, 3.0),)),
)


class SuperCLAugment(nn.Module):
    """SuperCL's augmentation as in its code (arXiv 2504.14737, dataset/chd.py).

    Brightness is a factor of 0 to 1 on 8-bit images that are rescaled to [0, 1] afterwards, so that it only removes
    grey levels; flips and rotations put organs on sides where they never are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.augment = Augment("supercl")

    def move(self, images: Tensor) -> Tensor:
        """Mirrored, deformed, rotated and scaled copies."""
        return self.augment.move(Slices(images, None)).images

    def recolour(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [0, 1] → copies of changed brightness and contrast, blurred, and rescaled to [0, 1]."""
        drawn = draw(PUBLISHED_INTENSITY, len(images), images.device)
        brightness, contrast = (drawn[name][:, None, None, None] for name in ("brightness", "contrast"))
        dark = (images * brightness * 255).round() / 255
        mean = dark.mean(dim=(1, 2, 3), keepdim=True)
        changed = blur((mean + contrast * (dark - mean)).clamp(0, 1), drawn["sigma"], reach=1)
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


AugmentMakers = dict[AugmentName, Callable[[], nn.Module]]
"""Name → builder of a random augmentation of images."""

TWO_VIEWS: AugmentMakers = {"light": LightAugment, "strong": StrongAugment}
ONE_VIEW: AugmentMakers = {"none": nn.Identity, **TWO_VIEWS}
VIEW_GROUPS: AugmentMakers = {
    "strong": lambda: ViewGroups(StrongAugment()),
    "published": lambda: ViewGroups(SuperCLAugment()),
}


def make_views(images: Tensor, views: int, augmentation: nn.Module) -> Tensor:
    """(B, C, S, S) → (views·B, C, S, S): all first views, then all second ones, and so on."""
    changed: Tensor = augmentation(torch.cat([images] * views))
    return changed
