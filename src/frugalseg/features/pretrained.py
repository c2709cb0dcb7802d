"""The encoder of a pre-training run as a frozen encoder: all of its feature maps as one, at a quarter of the slice."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.engine.device import autocast, resolve_precision
from frugalseg.engine.files import MODEL_FILE, sha256
from frugalseg.errors import OptionError
from frugalseg.models.blocks import use_channels_last
from frugalseg.models.registry import build_encoder
from frugalseg.models.saved import WEIGHTS, load_encoder, read_network_record
from frugalseg.options import Precision
from frugalseg.promptable.protocol import FLOAT32, Embedding, Recipe, make_signature
from frugalseg.records.networks import EncoderRecord

STRIDE = 4
"""Pixels of the slice per pixel of the map, as with LiteMedSAM: coarser maps are enlarged, finer ones averaged."""


def is_run(given: str) -> bool:
    """Whether what `promptable.load.resolve_name` returned is a run of this program, rather than published weights."""
    path = Path(given)
    return path.is_absolute() and (path / MODEL_FILE).is_file()  # names are not, whatever lies in the working folder


class PretrainedEncoder:
    """The encoder of `frugalseg pretrain` as an `ImageEncoder`.

    Args:
        run: folder of the run.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        RunError: the run is not finished, of another kind, or damaged.
        OptionError: its encoder sees neighbouring slices.

    Attributes:
        name, signature, weights_signature, recipe, device: see `ImageEncoder`.
    """

    def __init__(self, run: Path, device: torch.device, precision: Precision = "auto") -> None:
        record = read_network_record(EncoderRecord, run)
        if record.context:
            raise OptionError(
                f"{run} was pre-trained with --context {record.context}, a frozen encoder sees single slices",
                "give a run of --context 0",
            )
        self.encoder = build_encoder(record.backbone, record.norm)
        load_encoder(self.encoder, run)
        use_channels_last(self.encoder, device=device)
        self.encoder.to(device).eval().requires_grad_(False)
        self.name = f"{record.backbone}, {record.method}"
        # No padding is needed at a multiple of the stride; an instance norm needs more than one value.
        steps = max(2, -(-record.preprocessing.size // self.encoder.stride))
        side = steps * self.encoder.stride
        self.recipe = Recipe(side, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=False, levels="continuous")
        self.device, self.precision = device, precision
        weights = sha256(run / WEIGHTS)
        self.signature = make_signature(self.name, weights, self.recipe, resolve_precision(precision, device))
        self.weights_signature = make_signature(self.name, weights, self.recipe, FLOAT32)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Embedding:
        """Framed images (B, 3, S, S) → {"image": (B, channels of all maps, S/4, S/4) float32}."""
        with autocast(self.precision, self.device):
            maps = self.encoder(pixels[:, :1].to(self.device))
        return {"image": torch.cat([_resize(each.float(), self.recipe.size // STRIDE) for each in maps], dim=1)}


def _resize(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] > side:
        return F.adaptive_avg_pool2d(x, side)
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
