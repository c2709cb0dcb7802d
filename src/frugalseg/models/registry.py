"""The backbones by name. To add one: a module in this package, and a line in `OWN_BACKBONES`; or a plug-in."""

from __future__ import annotations

from typing import Literal

import torch

from frugalseg.errors import OptionError
from frugalseg.models import resunet, supercl_unet, transunet
from frugalseg.models.backbone import Backbone
from frugalseg.models.blocks import Encoder, ProjectionNet, Segmenter, use_channels_last
from frugalseg.models.heads import linear_head, mlp_head
from frugalseg.models.unet import UNET
from frugalseg.options import Norm
from frugalseg.plugins import Registry, describe_failures

OWN_BACKBONES: dict[str, Backbone] = {
    "unet": UNET,
    "resunet": resunet.RESUNET,
    "resnet18-unet": resunet.RESNET18_UNET,
    "resnet34-unet": resunet.RESNET34_UNET,
    "resnet50-unet": resunet.RESNET50_UNET,
    "resnet50-caffe-unet": resunet.RESNET50_CAFFE_UNET,
    "transunet": transunet.TRANSUNET,
    "transunet-small": transunet.TRANSUNET_SMALL,
    "supercl-unet": supercl_unet.SUPERCL_UNET,
}
BACKBONES = Registry("BACKBONES", Backbone, OWN_BACKBONES)
"""These, and those of plug-ins."""


def find_backbone(name: str) -> Backbone:
    """The backbone called `name`; `OptionError` for an unknown one lists the known."""
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise OptionError(f"--backbone {name!r} is unknown{describe_failures()}", f"choose one of: {known}")
    return BACKBONES[name]


def input_channels(context: int) -> int:
    """Input channels of a network with `context` neighbouring slices on each side."""
    return 2 * context + 1


def choose_norm(name: str, requested: Norm | None, preferred: Norm) -> Norm:
    """The normalisation of a backbone: the requested one, else that of its design, else `preferred`.

    Raises:
        OptionError: the backbone is unknown, or cannot be built with the requested norm.
    """
    backbone = find_backbone(name)
    if requested is None:
        return backbone.own_norm or preferred
    if requested not in backbone.norms:
        raise OptionError(
            f"--norm {requested} is not available for --backbone {name}", f"give one of: {', '.join(backbone.norms)}"
        )
    return requested


def build_segmenter(
    name: str,
    classes: int,
    norm: Norm,
    dropout: float | None = None,
    *,
    inputs: int = 1,
    device: torch.device | None = None,
) -> Segmenter:
    """A network with initial weights.

    Args:
        name: of the backbone.
        classes: number of logits per pixel.
        norm: see `choose_norm`.
        dropout: by default as published; the backbone defines what is dropped.
        inputs: input channels; more than 1 for neighbouring slices as channels.
        device: where it will run, which decides the memory layout; it is built on the CPU.

    Raises:
        OptionError: the backbone is unknown, or cannot have this norm.
    """
    encoder, dropout = _build_encoder(name, norm, dropout, inputs)
    decoder = find_backbone(name).decoder(encoder, classes, norm, dropout)
    use_channels_last(encoder, decoder, device=device)
    return Segmenter(encoder, decoder)


def build_projection(
    name: str,
    norm: Norm,
    dropout: float | None = None,
    head: Literal["linear", "mlp"] = "linear",
    *,
    inputs: int = 1,
    device: torch.device | None = None,
) -> ProjectionNet:
    """An encoder with a projection head: PolyCL's linear one, or one with a hidden layer as wide as the embedding.

    Arguments and errors as in `build_segmenter`.
    """
    encoder, _ = _build_encoder(name, norm, dropout, inputs)
    dim = encoder.embedding_dim
    use_channels_last(encoder, device=device)
    return ProjectionNet(encoder, linear_head(dim) if head == "linear" else mlp_head(dim, dim, dim))


def build_encoder(name: str, norm: Norm) -> Encoder:
    """The encoder of a network for single slices, with initial weights and the published dropout.

    Raises:
        OptionError: as `build_segmenter`.
    """
    return _build_encoder(name, norm, None, 1)[0]


def _build_encoder(name: str, norm: Norm, dropout: float | None, inputs: int) -> tuple[Encoder, float]:
    backbone = find_backbone(name)
    norm = choose_norm(name, norm, norm)
    if dropout is None:
        dropout = backbone.dropout
    return backbone.encoder(norm, dropout, inputs), dropout
