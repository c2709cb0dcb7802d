"""TransUNet's convolutional trunk: a ResNet of weight-standardised convolutions and group norms.

Sources: Big Transfer (arXiv 1912.11370), in the variant of TransUNet (arXiv 2102.04306): three stages, the stride on
the 3×3 convolution, and a ReLU after the sum, although its authors call the blocks pre-activated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


def standardise(weight: Tensor) -> Tensor:
    """Scale each output channel's kernel to mean 0 and variance 1 (weight standardisation, arXiv 1903.10520)."""
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (weight - mean) / torch.sqrt(variance + 1e-5)


class StandardisedConv(nn.Conv2d):
    """A convolution without bias whose kernels are standardised in every forward pass."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 — torch's name
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        return F.conv2d(input, standardise(self.weight), None, self.stride, self.padding)


class Root(StandardisedConv):
    """The 7×7 convolution of a grey image (or of several slices) repeated to three channels, as in TransUNet.

    Convolving three equal channels equals convolving one channel with the sum of the kernel over channels. The sum is
    taken after standardisation: a folded kernel, standardised again, would differ. With several slices each is
    repeated, and the kernels are divided by their number: equal slices give the result of one.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(3 * inputs, outputs, 7, stride=2)
        self.slices = inputs

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, slices, H, W) → (B, outputs, H / 2, W / 2)."""
        kernel = standardise(self.weight).reshape(self.out_channels, self.slices, 3, 7, 7).sum(dim=2) / self.slices
        return F.conv2d(input, kernel, None, self.stride, self.padding)


class BottleneckUnit(nn.Module):
    """ReLU(shortcut + bottleneck of 1×1, 3×3, 1×1 convolutions), each with its group norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = StandardisedConv(inputs, middle, 1)
        self.gn1 = nn.GroupNorm(GROUPS, middle, eps=1e-6)
        self.conv2 = StandardisedConv(middle, middle, 3, stride)
        self.gn2 = nn.GroupNorm(GROUPS, middle, eps=1e-6)
        self.conv3 = StandardisedConv(middle, outputs, 1)
        self.gn3 = nn.GroupNorm(GROUPS, outputs, eps=1e-6)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.conv_proj = StandardisedConv(inputs, outputs, 1, stride)
            self.gn_proj = nn.GroupNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        shortcut = self.gn_proj(self.conv_proj(x)) if self.projects else x
        x = F.relu(self.gn1(self.conv1(x)))
        x = F.relu(self.gn2(self.conv2(x)))
        return F.relu(shortcut + self.gn3(self.conv3(x)))


class ResNetV2(nn.Module):
    """Root and three stages.

    Attributes:
        channels: of the maps at 1/2, 1/4, 1/8, 1/16.
    """

    def __init__(self, inputs: int, width: int, depths: tuple[int, int, int]) -> None:
        super().__init__()
        self.channels = (width, 4 * width, 8 * width, 16 * width)
        self.conv_root = Root(inputs, width)
        self.gn_root = nn.GroupNorm(GROUPS, width, eps=1e-6)
        stages = [_make_stage(self.channels[i], self.channels[i + 1], depths[i], 2 if i else 1) for i in range(3)]
        self.block1, self.block2, self.block3 = stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, slices, H, W), sides multiples of 16 → four maps at 1/2, 1/4, 1/8, 1/16 resolution.

        TransUNet pools without padding, so its map at 1/4 lacks a row and a column, which are zero-padded for the skip
        connection.
        """
        root = F.relu(self.gn_root(self.conv_root(x)))
        quarter = self.block1(F.max_pool2d(root, 3, stride=2))
        eighth = self.block2(quarter)
        return [root, F.pad(quarter, (0, 1, 0, 1)), eighth, self.block3(eighth)]


def _make_stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    units = nn.Sequential()
    for i in range(depth):
        units.add_module(
            f"unit{i + 1}", BottleneckUnit(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1)
        )
    return units
