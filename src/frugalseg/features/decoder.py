"""The light decoder: features of a frozen encoder and the slice itself → masks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.features.encoder import FrozenEncoder
from frugalseg.models.blocks import (
    Decoder,
    MaskNetwork,
    double_conv,
    single_conv,
    use_channels_last,
    with_whole_gradient,
)
from frugalseg.models.registry import input_channels
from frugalseg.options import Norm

WIDTH = 32
"""Channels that the features are reduced to; each step up halves them, down to `NARROWEST`."""
NARROWEST = 16
"""Also the channels of what is joined from the slice."""
FULL_RESOLUTION = 128
"""Larger slices are decoded at half their side, but not below this, and the logits are enlarged: a quarter of the
time."""


class LightDecoder(Decoder):
    """Reduces the features to few channels, and enlarges them step by step, joined at each step by the slice.

    The features show what there is, the slice where its borders are: the map of LiteMedSAM has a quarter of the
    resolution of its input. The coordinates of the map's pixels are two further features: organs have a place, which
    the encoder's features do not show.

    Args:
        features: channels of the features, of all slices that the network sees.
        images: number of slices that it sees.
        map_side: side of the map.
        side: of the slices.
        classes, norm, dropout: as for other decoders; dropout is at the end of each block.
    """

    def __init__(
        self, features: int, images: int, map_side: int, side: int, classes: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        self.sides = decoder_sides(map_side, side)
        widths = [max(NARROWEST, WIDTH >> step) for step in range(len(self.sides) + 1)]
        self.reduce = nn.Sequential(single_conv(features + 2, WIDTH, norm, side=1), single_conv(WIDTH, WIDTH, norm))
        self.stems = nn.ModuleList(single_conv(images, NARROWEST, norm) for _ in self.sides)
        self.blocks = nn.ModuleList(
            double_conv(inputs + NARROWEST, outputs, norm, dropout) for inputs, outputs in pairwise(widths)
        )
        self.classify = nn.Conv2d(widths[-1], classes, 1)
        centres = (2 * torch.arange(map_side) + 1) / map_side - 1
        places = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))
        self.register_buffer("places", places[None], persistent=False)

    places: Tensor

    def forward(self, features: list[Tensor]) -> Tensor:
        """Slices (B, images, S, S) in [0, 1] and their features (B, features, h, w) → logits (B, classes, S, S)."""
        slices, maps = features
        x = self.reduce(torch.cat([maps, self.places.expand(len(maps), -1, -1, -1)], dim=1))
        for side, stem, block in zip(self.sides, self.stems, self.blocks, strict=True):
            x = block(torch.cat([resize(x, side), stem(resize(slices, side))], dim=1))
        return resize(self.classify(x), slices.shape[-1])


def decoder_sides(map_side: int, side: int) -> list[int]:
    """Sides of the decoder's blocks: twice that of the map, and so on, up to the side of the slices, or half of it."""
    last = min(side, max(FULL_RESOLUTION, -(-side // 2)))
    sides = [min(2 * map_side, last)]
    while sides[-1] < last:
        sides.append(min(2 * sides[-1], last))
    return sides


def resize(x: Tensor, side: int) -> Tensor:
    """(B, C, h, w) → (B, C, side, side), bilinear, anti-aliased when shrinking."""
    if x.shape[-2:] == (side, side):
        return x
    if side < x.shape[-1]:
        with torch.autocast(x.device.type, enabled=False):  # not implemented in bfloat16 on a CPU
            return F.interpolate(x.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)
    return with_whole_gradient(F.interpolate(x, (side, side), mode="bilinear", align_corners=False))


class FeatureSegmenter(MaskNetwork):
    """A frozen encoder, which is not saved, and the decoder that is trained.

    Args:
        encoder: computes features that are not given.
        decoder: see `LightDecoder`.
    """

    def __init__(self, encoder: FrozenEncoder, decoder: LightDecoder) -> None:
        super().__init__(decoder)
        self.frozen = encoder

    def forward(self, slices: Tensor, features: Tensor | None = None) -> Tensor:
        """Logits (B, classes, S, S).

        Args:
            slices: (B, images, S, S) in [0, 1].
            features: (B, images·C, h, w), of each of these images in turn; by default computed by the encoder.
        """
        if features is None:
            maps = self.frozen(slices.flatten(0, 1)).to(slices.device)
            features = maps.reshape(len(slices), -1, *maps.shape[2:])
        logits: Tensor = self.decoder([slices, features])
        return logits


def build_feature_segmenter(
    encoder: FrozenEncoder,
    context: int,
    side: int,
    classes: int,
    norm: Norm,
    dropout: float,
    device: torch.device | None = None,
) -> FeatureSegmenter:
    """A network with initial weights, for slices of `side` pixels and `context` neighbours on each side.

    `device` is where it will run, which decides the memory layout; it is built on the CPU.
    """
    channels, height, _ = encoder.shape
    images = input_channels(context)
    decoder = LightDecoder(images * channels, images, height, side, classes, norm, dropout)
    use_channels_last(decoder, device=device)
    return FeatureSegmenter(encoder, decoder)
