"""Random changes to a batch, on its device: all of a slice's place in one resampling, all of its intensity in a few
operations.

Nothing is read back from the device: a GPU need not be waited for, and the changes may be part of a CUDA graph.
Everything is drawn from PyTorch's generator of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from frugalseg.dataset.blur import NO_BLUR, blur
from frugalseg.dataset.deform import DEFORMATION, deformed_grid, draw_noise
from frugalseg.dataset.random_changes import Parameter, RandomChange, draw
from frugalseg.dataset.resample import affine, affine_grid, resample, rotation
from frugalseg.dataset.source import Slices

Strength = Literal["light", "robust", "features", "supercl"]
BLUR_REACH = 2


class Augment(nn.Module):
    """Rotation, scale and shift of image and labels together, and intensity, blur and noise of the image alone.

    No flips but for supercl: organs have a side. Every slice draws its own changes. What comes in from outside the
    picture is 0, that is air, and background.

    Args:
        strength: light for contrast, where the slice must stay what it is; robust for fine-tuning, where with few
            labelled scans strong changes of contrast and size stand in for other patients and contrast phases; features
            for slices with features of a frozen encoder, which do not follow changes of place exactly, so that these
            are half as strong; supercl
            as SuperCL's fine-tuning was published (arXiv 2504.14737): mirrored, bent, rotated all round, scaled, and no
            intensity changed.
    """

    def __init__(self, strength: Strength) -> None:
        super().__init__()
        self.recipe = RECIPES[strength]

    def forward(self, batch: Slices) -> Slices:
        """A changed copy of the batch; images stay in [0, 1]."""
        return self.recolour(self.move(batch))

    def move(self, batch: Slices) -> Slices:
        """Images, labels and weights moved together."""
        drawn = draw(self.recipe.place, len(batch.images), batch.images.device)
        return resample(batch, self.recipe.grid(drawn, batch.images.shape[-1]))

    def recolour(self, batch: Slices) -> Slices:
        """Intensities changed, everything in its place."""
        if not self.recipe.intensity:
            return batch
        drawn = draw(self.recipe.intensity, len(batch.images), batch.images.device)
        images = change_intensity(batch.images, contrast_then_brightness(drawn), drawn["gamma"])
        return replace(batch, images=blur_and_add_noise(images, drawn["sigma"], drawn["noise"]))


def similarity(angle: Tensor, scale: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """The map (B, 2, 3) that takes each pixel of a turned, scaled and shifted slice from where it was.

    Args:
        angle: (B,) in degrees; positive turns what is seen clockwise.
        scale: (B,) above 1 enlarges what is seen.
        right, down: (B,) shift as a share of the side.
    """
    turn = rotation(angle.deg2rad()) / scale[:, None, None]
    shift = torch.stack([right, down], dim=1).unsqueeze(2)
    return affine(turn, -2 * (turn @ shift).squeeze(2))


def _similar_grid(drawn: Mapping[str, Tensor], side: int) -> Tensor:
    return affine_grid(similarity(**drawn), side)


def _mirrored_and_deformed_grid(drawn: Mapping[str, Tensor], side: int) -> Tensor:
    """Mirrored along the axes where a factor is −1, then deformed."""
    mirror = torch.stack([drawn["mirror_x"], drawn["mirror_y"]], dim=1)
    noise = draw_noise(len(mirror), side, mirror.device)
    deformation = {parameter.name: drawn[parameter.name] for parameter in DEFORMATION.parameters}
    return deformed_grid(noise, **deformation) * mirror[:, None, None, :]


@dataclass(frozen=True)
class Line:
    """Intensities x in [0, 1] become gain · x + offset, held in 0…top; (B,) each."""

    gain: Tensor
    offset: Tensor
    top: Tensor


def contrast_then_brightness(drawn: Mapping[str, Tensor]) -> Line:
    """A factor for the contrast, and then a summand for the brightness, each followed by a clip to [0, 1], as one line:
    min(c·x, 1) + b, clipped, is c·x + b, held in 0…min(1, 1 + b)."""
    contrast, brightness = drawn["contrast"], drawn["brightness"]
    return Line(contrast, brightness, (1 + brightness).clamp(max=1))


def brightness_then_contrast(drawn: Mapping[str, Tensor]) -> Line:
    """The same in the other order: c · clip(x + b), clipped, is c·x + c·b, held in 0…min(1, c)."""
    contrast, brightness = drawn["contrast"], drawn["brightness"]
    return Line(contrast, contrast * brightness, contrast.clamp(max=1))


def change_intensity(images: Tensor, line: Line, gamma: Tensor | None = None) -> Tensor:
    """(B, C, S, S) in [0, 1] → copies of other contrast, brightness and gamma (B,), in [0, 1]."""
    gain, offset, top = (one[:, None, None, None] for one in (line.gain, line.offset, line.top))
    changed = torch.addcmul(offset, images, gain).clamp_(min=0).minimum(top)
    return changed if gamma is None else changed.pow_(gamma[:, None, None, None])


def blur_and_add_noise(images: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """(B, C, S, S) images blurred and with Gaussian noise, in [0, 1].

    Args:
        images: in [0, 1].
        sigma: (B,) standard deviation of the blur in pixels.
        noise: (B,) standard deviation of the noise.
    """
    blurred = blur(images, sigma, BLUR_REACH)
    return torch.addcmul(blurred, torch.randn_like(images), noise[:, None, None, None]).clamp_(0, 1)


@dataclass(frozen=True)
class Recipe:
    """Which changes slices undergo.

    Attributes:
        place: changes of place.
        grid: parameters drawn for them, and side of the slices → the grid to resample at (`dataset.resample`).
        intensity: changes of intensity; none for no change.
    """

    place: tuple[RandomChange, ...]
    grid: Callable[[Mapping[str, Tensor], int], Tensor]
    intensity: tuple[RandomChange, ...]


def _scaled_recipe(p: float, s: float) -> Recipe:
    """Changes of place `p` times and of intensity `s` times as strong as those of robust; places by `similarity`."""
    place = (
        Parameter("angle", -30 * p, 30 * p),
        Parameter("scale", 1 - 0.3 * p, 1 + 0.4 * p, neutral=1.0),
        Parameter("right", -0.1 * p, 0.1 * p),
        Parameter("down", -0.1 * p, 0.1 * p),
    )
    intensity = (
        RandomChange(0.7, (Parameter("contrast", 1 - 0.4 * s, 1 + 0.5 * s, neutral=1.0),)),
        RandomChange(0.7, (Parameter("brightness", -0.3 * s, 0.3 * s),)),
        RandomChange(0.5, (Parameter("gamma", 1 - 0.4 * s, 1 + 0.7 * s, neutral=1.0),)),
        RandomChange(0.2, (Parameter("sigma", 0.5, 1.0 + 0.5 * s, neutral=NO_BLUR),)),
        RandomChange(0.4, (Parameter("noise", 0.06 * s, 0.06 * s),)),
    )
    return Recipe((RandomChange(0.95, place),), _similar_grid, intensity)


MIRRORED_AND_DEFORMED = (
    RandomChange(0.5, (Parameter("mirror_x", -1.0, -1.0, neutral=1.0),)),
    RandomChange(0.5, (Parameter("mirror_y", -1.0, -1.0, neutral=1.0),)),
    DEFORMATION,
)
"""SuperCL's changes of place; it has none of intensity in fine-tuning."""

RECIPES: dict[Strength, Recipe] = {
    "light": _scaled_recipe(0.3, 0.3),
    "robust": _scaled_recipe(1.0, 1.0),
    "features": _scaled_recipe(0.5, 1.0),
    "supercl": Recipe(MIRRORED_AND_DEFORMED, _mirrored_and_deformed_grid, ()),
}
