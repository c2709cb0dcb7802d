"""The registry's description of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frugalseg.models.blocks import Decoder, Encoder
from frugalseg.options import Norm
from frugalseg.records.networks import WeightsKind


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """How to build a network, and how to load published weights into it.

    Attributes:
        encoder: normalisation, dropout, input channels → encoder.
        decoder: its encoder, number of classes, normalisation, dropout → decoder.
        norms: the normalisations it can be built with.
        own_norm: the normalisation of its design, or None where the training chooses.
        dropout: as published; the backbone defines what is dropped.
        source: where it was published.
        load_published: encoder, file → loads published weights into the encoder and returns what they are, see
            `pretrained_weights.load_published`; None where none are published.
    """

    encoder: Callable[[Norm, float, int], Encoder]
    decoder: Callable[[Encoder, int, Norm, float], Decoder]
    norms: tuple[Norm, ...]
    own_norm: Norm | None
    dropout: float
    source: str
    load_published: Callable[[Encoder, Path], WeightsKind] | None = None
