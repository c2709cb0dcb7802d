"""Pieces that several backbones share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.options import Norm


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """A normalisation layer over `channels`: instance, instance with learned scale and shift, or batch."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return InstanceNorm(channels, affine=kind == "instance_affine")


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm that keeps the memory layout of its maps.

    PyTorch's returns maps with the channels first whatever it is given, so every convolution would convert them. The
    batch norm of a single image is its instance norm, and on a CPU it is as fast with the channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape and memory layout."""
        channels_first = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
        if channels_first or not x.is_cpu:
            return super().forward(x)
        return torch.cat(
            [F.batch_norm(image, None, None, self.weight, self.bias, True, eps=self.eps) for image in torch.split(x, 1)]
        )


def use_channels_last(*parts: nn.Module, device: torch.device | None = None) -> None:
    """Store the weights of each part in the memory layout in which its convolutions are fastest, channels last, unless
    one of its norms would convert every map back. What the parts compute stays the same.

    Args:
        parts: encoders, decoders, or whole networks.
        device: where they will run; with a CPU, parts with instance norms have channels last too.
    """
    converts = (nn.GroupNorm,) if device is not None and device.type == "cpu" else (nn.GroupNorm, nn.InstanceNorm2d)
    for part in parts:
        if not any(isinstance(layer, converts) for layer in part.modules()):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def upsample(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 2H, 2W), bilinear with aligned corners, in the memory layout of `x`."""
    grown = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    if not (x.is_cpu and grown.requires_grad and grown.is_contiguous(memory_format=torch.channels_last)):
        return grown
    # What follows a concatenation has a slice of a gradient, for which PyTorch's kernel is six times slower.
    grown.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
    return grown


def double_conv(inputs: int, outputs: int, norm: Norm, dropout: float) -> nn.Sequential:
    """PolyCL's block: twice (3×3 convolution, normalisation, leaky ReLU), then dropout."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), make_norm(norm, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Dropout(dropout))


def padded_to(x: Tensor, stride: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Pad (B, C, H, W) with zeros to multiples of `stride`, at least two of them, and tell where the image lies.

    Two, because an instance norm needs more than one value at the deepest level.
    """
    height, width = x.shape[-2:]
    grown = [max(2, -(-side // stride)) * stride for side in (height, width)]
    top, left = (grown[0] - height) // 2, (grown[1] - width) // 2
    region = (slice(top, top + height), slice(left, left + width))
    if grown == [height, width]:
        return x, region
    return F.pad(x, (left, grown[1] - width - left, top, grown[0] - height - top)), region


class Encoder(nn.Module):
    """What every backbone's encoder offers.

    Attributes:
        channels: channels of each feature map, fine to coarse.
        stride: side of an input pixel block that becomes one pixel of the coarsest map.
        embedding_dim: length of what `embed` returns.
    """

    channels: Sequence[int]
    stride: int
    embedding_dim: int

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image (B, inputs, H, W), sides multiples of `stride` → feature maps, fine to coarse."""
        raise NotImplementedError

    def embed(self, features: list[Tensor]) -> Tensor:
        """Feature maps → one vector an image, (B, embedding_dim)."""
        raise NotImplementedError


class Decoder(nn.Module):
    """What every backbone's decoder offers.

    Attributes:
        classify: the last layer, which gives one logit a class and pixel.
    """

    classify: nn.Conv2d

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the image's resolution."""
        raise NotImplementedError


class Segmenter(nn.Module):
    """Encoder and decoder: an image of any size to one logit a class and pixel.

    The background has no logit of its own: it stands at 0 beside the classes (see `segmentation.losses`).
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def start_from_logit(self, logit: float) -> None:
        """Let an untrained network give every class this logit: organs are rare, so a low one spares it the time to
        learn that (the prior of focal loss, arXiv 1708.02002, section 3.3)."""
        nn.init.constant_(self.decoder.classify.bias, logit)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) in [0, 1] → logits (B, C, H, W)."""
        grown, (rows, columns) = padded_to(x, self.encoder.stride)
        logits: Tensor = self.decoder(self.encoder(grown))
        return logits[..., rows, columns]


class ProjectionNet(nn.Module):
    """Encoder and projection head: an image of any size to the vector that contrast compares."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) in [0, 1] → (B, D), not normalised."""
        projected: Tensor = self.head(self.represent(x))
        return projected

    def represent(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) in [0, 1] → the encoder's embedding before the head, (B, embedding_dim)."""
        grown, _ = padded_to(x, self.encoder.stride)
        return self.encoder.embed(self.encoder(grown))
