"""Gaussian blur with a standard deviation of its own for every slice of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NO_BLUR = 1e-2
"""Standard deviation in pixels at which every weight but the middle one is 0 in float32."""


def gaussian_kernels(sigma: Tensor, reach: int) -> Tensor:
    """(B,) standard deviations in pixels → (B, 2·reach + 1) weights, those of each kernel with the sum 1."""
    offsets = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    return (-(offsets**2) / (2 * sigma[:, None] ** 2)).softmax(dim=1)


def blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """(B, C, S, S) images blurred, each with its own standard deviation; the border is mirrored.

    Two convolutions, along the rows and along the columns, in which every slice is a group.

    Args:
        images: of more than `reach` pixels a side.
        sigma: (B,) in pixels; `NO_BLUR` leaves an image as it is.
        reach: pixels from the middle of the kernel to its end.
    """
    kernels = gaussian_kernels(sigma, reach)
    # The channels of a slice share its kernel: they stand where a convolution has the batch.
    padded = F.pad(images.transpose(0, 1), (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernels[:, None, None, :], groups=len(images))
    return F.conv2d(rows, kernels[:, None, :, None], groups=len(images)).transpose(0, 1)
