"""The backbones by name. To add one: a file beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frugalseg.errors import OptionError
from frugalseg.models.blocks import Decoder, Encoder, ProjectionNet, Segmenter
from frugalseg.models.heads import linear_head
from frugalseg.models.unet import DROPOUT, UNetDecoder, UNetEncoder
from frugalseg.options import Norm


@dataclass(frozen=True)
class Backbone:
    """How to build one network.

    Attributes:
        encoder: normalisation, dropout → encoder.
        decoder: its encoder, number of classes, normalisation, dropout → decoder.
    """

    encoder: Callable[[Norm, float], Encoder]
    decoder: Callable[[Encoder, int, Norm, float], Decoder]


def _unet_decoder(encoder: Encoder, classes: int, norm: Norm, dropout: float) -> Decoder:
    return UNetDecoder(encoder.channels, classes, norm, dropout)


BACKBONES: dict[str, Backbone] = {
    "unet": Backbone(UNetEncoder, _unet_decoder),
}


def _backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise OptionError(f"--backbone {name!r} is unknown", f"choose one of: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]


def build_segmenter(name: str, classes: int, norm: Norm, dropout: float = DROPOUT) -> Segmenter:
    """A network with fresh weights; raises `OptionError` for an unknown name."""
    backbone = _backbone(name)
    encoder = backbone.encoder(norm, dropout)
    return Segmenter(encoder, backbone.decoder(encoder, classes, norm, dropout))


def build_projection(name: str, norm: Norm, dropout: float = DROPOUT) -> ProjectionNet:
    """An encoder with PolyCL's projection head; raises `OptionError` for an unknown name."""
    encoder = _backbone(name).encoder(norm, dropout)
    return ProjectionNet(encoder, linear_head(encoder.embedding_dim))
