"""What the registry knows of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frugalseg.models.blocks import Decoder, Encoder
from frugalseg.options import Norm
from frugalseg.records.model import WeightsKind


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """How to build one network, and which weights of others it takes.

    Attributes:
        encoder: normalisation, dropout, input channels → encoder.
        decoder: its encoder, number of classes, normalisation, dropout → decoder.
        norms: the normalisations it can be built with.
        own_norm: the one that its design fixes, or None where the training chooses.
        dropout: as published; what it drops is the backbone's matter.
        source: where it was published.
        load_published: encoder, file → loads published weights into the encoder and tells what they are, as
            `pretrained_weights.load_published` does; None where no fitting ones were published.
    """

    encoder: Callable[[Norm, float, int], Encoder]
    decoder: Callable[[Encoder, int, Norm, float], Decoder]
    norms: tuple[Norm, ...]
    own_norm: Norm | None
    dropout: float
    source: str
    load_published: Callable[[Encoder, Path], WeightsKind] | None = None
