"""The U-Net of PolyCL: that of MultiMix without its saliency bridge (arXiv 2505.19208; 2010.14731).

It has 1.962 M parameters: 1,178,480 in the encoder and 783,857 in the decoder with one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.backbone import Backbone
from frugalseg.models.blocks import Decoder, Encoder, double_conv, upsample
from frugalseg.options import Norm

WIDTHS = (16, 32, 64, 128, 256)


DROPOUT = 0.25
"""As published."""


class UNetEncoder(Encoder):
    """Five levels of `double_conv`, with max pooling between them."""

    def __init__(self, norm: Norm, dropout: float = DROPOUT, inputs: int = 1, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.channels = widths
        self.stride = 2 ** (len(widths) - 1)
        self.embedding_dim = widths[-1]
        self.levels = nn.ModuleList(double_conv(a, b, norm, dropout) for a, b in pairwise((inputs, *widths)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) → maps of 16, 32, 64, 128, 256 channels at full to 1/16 resolution."""
        features: list[Tensor] = []
        for level in self.levels:
            x = level(F.max_pool2d(features[-1], 2) if features else x)
            features.append(x)
        return features

    def embed(self, features: list[Tensor]) -> Tensor:
        """Mean of the max-pooled coarsest map, (B, 256)."""
        return F.max_pool2d(features[-1], 2).mean(dim=(2, 3))


class UNetDecoder(Decoder):
    """Bilinear upsampling, concatenation with the encoder's map, `double_conv`; a 1×1 convolution at the end.

    Args:
        channels: of the encoder's maps, fine to coarse.
        classes: number of logits per pixel.
        norm, dropout: of its blocks.
        widths: output channels of each level, fine to coarse; by default those of the encoder's map at that level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        norm: Norm,
        dropout: float = DROPOUT,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        skips = list(channels)[-2::-1]
        outputs = list(widths)[::-1] if widths is not None else skips
        inputs = [channels[-1], *outputs[:-1]]
        self.levels = nn.ModuleList(
            double_conv(coarse + fine, width, norm, dropout)
            for coarse, fine, width in zip(inputs, skips, outputs, strict=True)
        )
        self.classify = nn.Conv2d(outputs[-1], classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the resolution of the finest."""
        x = features[-1]
        for level, skip in zip(self.levels, features[-2::-1], strict=True):
            x = upsample(x)
            x = level(torch.cat([x, skip], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _make_decoder(encoder: Encoder, classes: int, norm: Norm, dropout: float) -> Decoder:
    return UNetDecoder(encoder.channels, classes, norm, dropout)


UNET = Backbone(
    encoder=UNetEncoder,
    decoder=_make_decoder,
    norms=("instance", "instance_affine", "batch"),
    own_norm=None,
    dropout=DROPOUT,
    source="PolyCL (arXiv 2505.19208)",
)
