"""Building blocks that several backbones share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.dropout import Dropout
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
    return with_whole_gradient(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


def with_whole_gradient(resized: Tensor) -> Tensor:
    """What `F.interpolate` returned, unchanged; its gradient is made contiguous where it has channels last on a CPU.

    What follows a concatenation has a slice of a gradient, for which PyTorch's kernel is six times slower.
    """
    if resized.is_cpu and resized.requires_grad and resized.is_contiguous(memory_format=torch.channels_last):
        resized.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
    return resized


def single_conv(inputs: int, outputs: int, norm: Norm, side: int = 3) -> nn.Sequential:
    """Convolution with kernels of `side` pixels, normalisation, leaky ReLU."""
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    return nn.Sequential(convolution, make_norm(norm, outputs), nn.LeakyReLU(0.2))


def double_conv(inputs: int, outputs: int, norm: Norm, dropout: float) -> nn.Sequential:
    """PolyCL's block: twice (3×3 convolution, normalisation, leaky ReLU), then dropout."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), make_norm(norm, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, Dropout(dropout))


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


class MaskNetwork(nn.Module):
    """A network that ends in a decoder with one logit per class and pixel.

    The background has no logit; it counts as 0 next to those of the classes (see `segmentation.losses`).
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def start_from_logits(self, logits: Sequence[float]) -> None:
        """Initialise the bias of each class to its logit: organs are rare, so low ones save training time (the prior of
        focal loss, arXiv 1708.02002, section 3.3)."""
        bias = self.decoder.classify.bias
        assert bias is not None
        with torch.no_grad():
            bias.copy_(torch.tensor(logits))


class Segmenter(MaskNetwork):
    """Encoder and decoder: an image of any size → one logit per class and pixel."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.encoder = encoder

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
