"""Elastic deformation, rotation and scaling of slices in one resampling, as SuperCL draws them.

All three or none (arXiv 2504.14737, its code). Every slice draws a strength, a smoothness, an angle and a scale of its
own. Displacements are uniform noise, smoothed and multiplied by the strength; nothing lies beyond the border that could
displace. The published figures are pixels of 512. Here the smoothness is the same share of the side at every size, and
so are the displacements: 0.46 % of it in their standard deviation, with which the grid does not fold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from frugalseg.dataset.random_changes import Parameter, RandomChange
from frugalseg.dataset.resample import pixel_centres, rotation

PUBLISHED_SIDE = 512
"""Side in pixels of the slices that the published figures are of."""
SMOOTHNESS = 14.0, 17.0
"""Standard deviation in pixels, at the published side, of the Gaussian that smooths the noise."""
TRUNCATE = 4
"""Standard deviations at which that Gaussian ends, as SciPy's."""
DEFORMATION = RandomChange(
    p=0.67,
    parameters=(
        Parameter("strength", 100.0, 350.0, neutral=0.0),
        Parameter("smoothness", *SMOOTHNESS, neutral=SMOOTHNESS[0]),
        Parameter("angle", 0.0, 2 * math.pi, neutral=0.0),
        Parameter("zoom", 0.7, 1.3, neutral=1.0),
    ),
)
"""How a slice is deformed, turned and scaled; the parameters are those of `deformed_grid`."""


def draw_noise(count: int, side: int, device: torch.device) -> Tensor:
    """(count, 2, side, side) uniform noise in −1…1, from PyTorch's generator of the device."""
    return torch.empty(count, 2, side, side, device=device).uniform_(-1, 1)


def deformed_grid(noise: Tensor, strength: Tensor, smoothness: Tensor, angle: Tensor, zoom: Tensor) -> Tensor:
    """Where each pixel is taken from, (B, S, S, 2) as (x, y) in −1…1: displaced, then turned and scaled.

    Args:
        noise: (B, 2, S, S).
        strength, smoothness: (B,) in pixels of 512.
        angle: (B,) in radians.
        zoom: (B,) of the coordinates; below 1 enlarges what is shown.
    """
    side = noise.shape[-1]
    share = side / PUBLISHED_SIDE
    smooth = smoothed(noise, smoothness * share, math.ceil(TRUNCATE * SMOOTHNESS[1] * share))
    # In pixels the strength grows with the square of the side, since a wider Gaussian leaves less of the noise; a pixel
    # is 2 / side of the coordinates.
    displaced = smooth * (strength * share**2 * 2 / side)[:, None, None, None]
    turn = rotation(-angle) * zoom[:, None, None]
    centres = pixel_centres(side, noise)
    plain = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    return (plain + displaced.movedim(1, -1)).flatten(1, 2).matmul(turn.mT).view(-1, side, side, 2)


def smoothed(maps: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """(B, C, S, S) maps convolved with a Gaussian of (B,) standard deviations, which ends `reach` pixels from its
    middle; 0 lies around the maps.

    Products with a band of weights from both sides: the kernels are wide, and a convolution takes twice the time.
    """
    place = torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    offset = place[:, None] - place[None, :]
    steps = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    narrow = -0.5 / sigma[:, None, None] ** 2
    total = (narrow[:, 0] * steps**2).exp().sum(dim=1)
    band = (narrow * offset**2).exp() * (offset.abs() <= reach) / total[:, None, None]
    band = band.unsqueeze(1)
    return band @ maps @ band
