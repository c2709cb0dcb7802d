"""Building blocks that several backbones share."""

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
    return nn.InstanceNorm2d(channels, affine=kind == "instance_affine")


def use_channels_last(*parts: nn.Module) -> None:
    """Store the weights of each part in channels-last order, in which convolutions are fastest, unless it has an
    instance or group norm, which would convert every map. Results are the same."""
    for part in parts:
        if not any(isinstance(layer, (nn.InstanceNorm2d, nn.GroupNorm)) for layer in part.modules()):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def double_conv(inputs: int, outputs: int, norm: Norm, dropout: float) -> nn.Sequential:
    """PolyCL's block: twice (3×3 convolution, normalisation, leaky ReLU), then dropout."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), make_norm(norm, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Dropout(dropout))


def pad_to_multiple(x: Tensor, stride: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Pad (B, C, H, W) with zeros to multiples of `stride`, and return the region of the image in the result.

    Each side becomes at least 2·`stride`, because an instance norm needs more than one value at the deepest level.
    """
    height, width = x.shape[-2:]
    padded = [max(2, -(-side // stride)) * stride for side in (height, width)]
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
    region = (slice(top, top + height), slice(left, left + width))
    if padded == [height, width]:
        return x, region
    return F.pad(x, (left, padded[1] - width - left, top, padded[0] - height - top)), region


class Encoder(nn.Module):
    """Interface of all encoders.

    Attributes:
        channels: channels of each feature map, fine to coarse.
        stride: downsampling factor of the coarsest map.
        embedding_dim: length of what `embed` returns.
    """

    channels: Sequence[int]
    stride: int
    embedding_dim: int

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image (B, inputs, H, W), sides multiples of `stride` → feature maps, fine to coarse."""
        raise NotImplementedError

    def embed(self, features: list[Tensor]) -> Tensor:
        """Feature maps → one vector per image, (B, embedding_dim)."""
        raise NotImplementedError


class Decoder(nn.Module):
    """Interface of all decoders.

    Attributes:
        classify: the last layer, with one logit per class and pixel.
    """

    classify: nn.Conv2d

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the image's resolution."""
        raise NotImplementedError


class Segmenter(nn.Module):
    """Encoder and decoder: an image of any size → one logit per class and pixel.

    The background has no logit; it counts as 0 next to those of the classes (see `segmentation.losses`).
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def start_from_logit(self, logit: float) -> None:
        """Initialise the bias of every class to this logit: organs are rare, so a low one saves training time (the
        prior of focal loss, arXiv 1708.02002, section 3.3)."""
        nn.init.constant_(self.decoder.classify.bias, logit)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) in [0, 1] → logits (B, C, H, W)."""
        padded, (rows, columns) = pad_to_multiple(x, self.encoder.stride)
        logits: Tensor = self.decoder(self.encoder(padded))
        return logits[..., rows, columns]


class ProjectionNet(nn.Module):
    """Encoder and projection head: an image of any size → the vector compared by contrastive losses."""

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
        padded, _ = pad_to_multiple(x, self.encoder.stride)
        return self.encoder.embed(self.encoder(padded))
