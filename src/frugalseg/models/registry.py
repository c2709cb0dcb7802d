"""The backbones by name. To add one: a file beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from frugalseg.errors import OptionError
from frugalseg.models.blocks import Encoder, ProjectionNet, Segmenter
from frugalseg.models.heads import linear_head
from frugalseg.models.unet import UNetDecoder, UNetEncoder
from frugalseg.options import Norm


@dataclass(frozen=True)
class Backbone:
    """How to build one network.

    Attributes:
        encoder: normalisation → encoder.
        decoder: its encoder, number of classes, normalisation → decoder.
    """

    encoder: Callable[[Norm], Encoder]
    decoder: Callable[[Encoder, int, Norm], nn.Module]


BACKBONES: dict[str, Backbone] = {
    "unet": Backbone(UNetEncoder, lambda encoder, classes, norm: UNetDecoder(encoder.channels, classes, norm)),
}


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise OptionError(f"--backbone {name!r} is unknown", f"choose one of: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]


def build_segmenter(name: str, classes: int, norm: Norm) -> Segmenter:
    """A network with fresh weights; raises `OptionError` for an unknown name."""
    backbone = _backbone(name)
    encoder = backbone.encoder(norm)
    return Segmenter(encoder, backbone.decoder(encoder, classes, norm))


def build_projection(name: str, norm: Norm) -> ProjectionNet:
    """An encoder with PolyCL's projection head; raises `OptionError` for an unknown name."""
    encoder = _backbone(name).encoder(norm)
    return ProjectionNet(encoder, linear_head(encoder.embedding_dim))
