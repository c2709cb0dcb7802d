"""Elastic deformation, rotation and scaling of slices in one resampling, as SuperCL draws them."""

from __future__ import annotations

import math
from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from kornia.constants import Resample
from kornia.filters import gaussian_blur2d
from torch import Tensor

PUBLISHED_SIDE = 512
"""Side in pixels of the slices that the published figures are of."""
STRENGTH = 100.0, 350.0
SMOOTHNESS = 14.0, 17.0
"""Standard deviation in pixels, at the published side, of the Gaussian that smooths the noise."""
TRUNCATE = 4
"""Standard deviations at which that Gaussian ends, as SciPy's."""
ZOOM = 0.7, 1.3


class RandomDeformation(K.AugmentationBase2D):  # type: ignore[misc]
    """Bent, turned all round and scaled, all three or none: SuperCL's spatial transform (arXiv 2504.14737, its code).

    Every slice draws a strength, a smoothness, an angle and a scale of its own. Displacements are uniform noise,
    smoothed and multiplied by the strength; nothing lies beyond the border that could displace. The published figures
    are pixels of 512. Here the smoothness is the same share of the side at every size, and so are the displacements:
    0.46 % of it in their standard deviation, with which the grid does not fold. What comes in from outside is 0.

    Args:
        p: probability for each slice.
    """

    def __init__(self, p: float = 0.67) -> None:
        super().__init__(p=p)
        self.flags = {"resample": Resample.BILINEAR}

    def generate_parameters(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Noise in −1…1, and of each slice strength and smoothness at the published side, angle, and scale."""
        count, _, height, width = shape

        def drawn(low: float, high: float, *more: int) -> Tensor:
            return torch.empty(count, *more, device=self.device, dtype=self.dtype).uniform_(low, high)

        return {
            "noise": drawn(-1, 1, 2, height, width),
            "strength": drawn(*STRENGTH),
            "smoothness": drawn(*SMOOTHNESS),
            "angle": drawn(0, 2 * math.pi),
            "zoom": drawn(*ZOOM),
        }

    def apply_transform(
        self, images: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """(B, C, S, S) → the same, sampled where the parameters say."""
        drawn = {name: params[name].to(images.device) for name in ("noise", "strength", "smoothness", "angle", "zoom")}
        grid = sampling_grid(**drawn).to(images.dtype)
        return F.grid_sample(images, grid, mode=flags["resample"].name.lower(), align_corners=False)

    def apply_transform_mask(
        self, masks: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """As images; the container asks for the nearest neighbour."""
        return self.apply_transform(masks, params, flags, transform)

    def apply_non_transform_mask(
        self, masks: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Masks of slices that stay as they are."""
        return masks


def sampling_grid(noise: Tensor, strength: Tensor, smoothness: Tensor, angle: Tensor, zoom: Tensor) -> Tensor:
    """Where each pixel is taken from, (B, S, S, 2) as (x, y) in −1…1: displaced, then turned and scaled.

    Args:
        noise: (B, 2, S, S).
        strength, smoothness: (B,) in pixels of 512.
        angle: (B,) in radians.
        zoom: (B,) of the coordinates; below 1 enlarges what is shown.
    """
    side = noise.shape[-1]
    share = side / PUBLISHED_SIDE
    sigma = (smoothness * share)[:, None].expand(-1, 2)
    reach = math.ceil(TRUNCATE * SMOOTHNESS[1] * share)
    smooth: Tensor = gaussian_blur2d(noise, 2 * reach + 1, sigma, border_type="constant")
    # In pixels the strength grows with the square of the side, since a wider Gaussian leaves less of the noise; a pixel
    # is 2 / side of the coordinates.
    displaced = smooth * (strength * share**2 * 2 / side)[:, None, None, None]
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    middles = (2 * torch.arange(side, device=noise.device, dtype=noise.dtype) + 1) / side - 1
    plain = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1)
    return (plain + displaced.movedim(1, -1)).flatten(1, 2).matmul(turn.mT).view(-1, side, side, 2)
