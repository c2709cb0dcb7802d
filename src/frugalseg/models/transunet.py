"""TransUNet (arXiv 2102.04306): a convolutional trunk, a transformer on its coarsest map, and a U-Net's decoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from frugalseg.models.backbone import Backbone
from frugalseg.models.blocks import Decoder, Encoder, upsample
from frugalseg.models.google_vit import load_google_vit
from frugalseg.models.resnet_v2 import ResNetV2
from frugalseg.models.vit import Transformer
from frugalseg.options import Norm

DROPOUT = 0.1
"""As published."""


@dataclass(frozen=True, kw_only=True)
class TransUNetShape:
    """The sizes of a TransUNet.

    Attributes:
        width: channels of the trunk's root, a multiple of 32 (the number of groups of its norms).
        depths: units in each of the trunk's stages.
        dim, heads, hidden, blocks: of the transformer.
        widths: output channels of the decoder's convolutions, coarse to fine: on the tokens, then at 1/8, 1/4, 1/2, 1.
    """

    width: int
    depths: tuple[int, int, int]
    dim: int
    heads: int
    hidden: int
    blocks: int
    widths: tuple[int, int, int, int, int]


BASE = TransUNetShape(
    width=64, depths=(3, 4, 9), dim=768, heads=12, hidden=3072, blocks=12, widths=(512, 256, 128, 64, 16)
)
SMALL = TransUNetShape(width=32, depths=(1, 1, 2), dim=192, heads=3, hidden=768, blocks=4, widths=(128, 64, 32, 32, 16))


class TransUNetEncoder(Encoder):
    """The trunk's maps at 1/2, 1/4, 1/8, and the encoded tokens at 1/16."""

    def __init__(self, shape: TransUNetShape, dropout: float = DROPOUT, inputs: int = 1) -> None:
        super().__init__()
        self.trunk = ResNetV2(inputs, shape.width, shape.depths)
        self.transformer = Transformer(
            self.trunk.channels[-1], shape.dim, shape.heads, shape.hidden, shape.blocks, dropout
        )
        self.channels = (*self.trunk.channels[:-1], shape.dim)
        self.stride = 16
        self.embedding_dim = shape.dim

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W), sides multiples of 16 → four maps at 1/2 to 1/16 resolution."""
        *skips, coarsest = self.trunk(x)
        return [*skips, self.transformer(coarsest)]

    def embed(self, features: list[Tensor]) -> Tensor:
        """Mean of the encoded tokens, (B, dim)."""
        return features[-1].mean(dim=(2, 3))


class TransUNetDecoder(Decoder):
    """A convolution on the tokens, then four times: upsampling, skip connection (except the last), two convolutions.

    Convolutions are 3×3 without bias, each with a batch norm and a ReLU; the classifier is also 3×3.
    """

    def __init__(self, channels: tuple[int, ...], classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        skips = [*channels[-2::-1], 0]
        self.tokens = nn.Sequential(*_make_conv(channels[-1], widths[0]))
        self.levels = nn.ModuleList(
            nn.Sequential(*_make_conv(widths[i] + skips[i], widths[i + 1]), *_make_conv(widths[i + 1], widths[i + 1]))
            for i in range(len(skips))
        )
        self.classify = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the image's resolution."""
        x = self.tokens(features[-1])
        for i, level in enumerate(self.levels):
            x = upsample(x)
            x = level(torch.cat([x, *features[-2 - i : -1 - i]], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _make_conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _make_encoder(shape: TransUNetShape, norm: Norm, dropout: float, inputs: int) -> Encoder:
    return TransUNetEncoder(shape, dropout, inputs)


def _make_decoder(shape: TransUNetShape, encoder: Encoder, classes: int, norm: Norm, dropout: float) -> Decoder:
    return TransUNetDecoder(tuple(encoder.channels), classes, shape.widths)


def _make_backbone(shape: TransUNetShape, source: str, *, published: bool) -> Backbone:
    # The trunk's group norms and the transformer's layer norms are part of the design; "batch" is the decoder's.
    return Backbone(
        encoder=partial(_make_encoder, shape),
        decoder=partial(_make_decoder, shape),
        norms=("batch",),
        own_norm="batch",
        dropout=DROPOUT,
        source=source,
        load_published=load_google_vit if published else None,
    )


TRANSUNET = _make_backbone(BASE, "TransUNet (arXiv 2102.04306), R50-ViT-B/16", published=True)
TRANSUNET_SMALL = _make_backbone(SMALL, "ours: TransUNet, narrow and shallow", published=False)
