"""ResNet encoders (arXiv 1512.03385) with torchvision's names and shapes of weights, without the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.blocks import Encoder, make_norm
from frugalseg.options import Norm

PLANES = (64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class ResNetShape:
    """The architecture of a ResNet.

    Attributes:
        name: as torchvision and timm call it.
        depths: blocks in each of the four stages.
        bottleneck: blocks of three convolutions with 4 times the output channels, instead of two convolutions.
        stem: channels of the first convolution.
        stride_on: which convolution of a bottleneck has the stride: the first 1×1 in the paper ("v1", Caffe), the 3×3
            in torchvision, timm and NVIDIA ("v1.5"). Their weights have the same names and shapes.
        strides: by how much each stage shrinks the map, in its first block.
    """

    name: str
    depths: tuple[int, int, int, int]
    bottleneck: bool = False
    stem: int = 64
    stride_on: Literal["1x1", "3x3"] = "3x3"
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)

    @property
    def expansion(self) -> int:
        """Output channels of a stage per plane."""
        return 4 if self.bottleneck else 1


class Residual(nn.Module):
    """ReLU(x + convolutions(x)), with a 1×1 convolution on x where the shape changes."""

    downsample: nn.Module | None

    def _make_shortcut(self, inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module | None:
        if stride == 1 and inputs == outputs:
            return None
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), make_norm(norm, outputs))

    def _compute_residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self._compute_residual(x))


class BasicBlock(Residual):
    """Two 3×3 convolutions."""

    def __init__(self, inputs: int, planes: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = make_norm(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = make_norm(norm, planes)
        self.downsample = self._make_shortcut(inputs, planes, stride, norm)

    def _compute_residual(self, x: Tensor) -> Tensor:
        result: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return result


class Bottleneck(Residual):
    """1×1, 3×3, 1×1 convolutions; the last has 4 times the planes."""

    def __init__(self, inputs: int, planes: int, stride: int, norm: Norm, stride_on: Literal["1x1", "3x3"]) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(inputs, planes, 1, first, bias=False)
        self.bn1 = make_norm(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=1, bias=False)
        self.bn2 = make_norm(norm, planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = make_norm(norm, 4 * planes)
        self.downsample = self._make_shortcut(inputs, 4 * planes, stride, norm)

    def _compute_residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        result: Tensor = self.bn3(self.conv3(x))
        return result


class ResNetEncoder(Encoder):
    """Stem and four stages; the maps are the stem's (before its pooling) and each stage's.

    The attributes have torchvision's names, so that its weights fit; bn1 may be an instance norm.
    """

    def __init__(self, shape: ResNetShape, norm: Norm, inputs: int = 1) -> None:
        super().__init__()
        self.channels = (shape.stem, *(planes * shape.expansion for planes in PLANES))
        self.stride = 4 * prod(shape.strides)
        self.embedding_dim = self.channels[-1]
        self.conv1 = nn.Conv2d(inputs, shape.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm, shape.stem)
        stages = [_make_stage(shape, i, self.channels[i], norm) for i in range(4)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) → five maps at 1/2 to 1/`stride` of the resolution."""
        features = [F.relu(self.bn1(self.conv1(x)))]
        x = F.max_pool2d(features[0], 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features

    def embed(self, features: list[Tensor]) -> Tensor:
        """Mean of the coarsest map, (B, 512), or (B, 2048) with bottlenecks."""
        return features[-1].mean(dim=(2, 3))


def _make_stage(shape: ResNetShape, index: int, inputs: int, norm: Norm) -> nn.Sequential:
    """Stage `index` of four."""
    planes = PLANES[index]
    blocks: list[nn.Module] = []
    for i in range(shape.depths[index]):
        stride = shape.strides[index] if i == 0 else 1
        if shape.bottleneck:
            blocks.append(Bottleneck(inputs, planes, stride, norm, shape.stride_on))
        else:
            blocks.append(BasicBlock(inputs, planes, stride, norm))
        inputs = planes * shape.expansion
    return nn.Sequential(*blocks)
