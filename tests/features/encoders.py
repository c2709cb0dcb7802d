"""A frozen encoder whose features are known: the slice's mean brightness in blocks, and their deviation from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from frugalseg.features.encoder import FrozenEncoder
from frugalseg.promptable.protocol import Recipe

RECIPE = Recipe(size=64, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=False, levels="continuous")


class BlockMeans:
    """Features (B, 2, 16, 16) of images of 64 pixels; counts what it encodes."""

    name = "BlockMeans"
    recipe = RECIPE
    device = torch.device("cpu")

    def __init__(self, signature="blocks", scale=1.0):
        self.signature = self.weights_signature = signature
        self.scale = scale
        self.encoded = 0

    def encode(self, pixels):
        self.encoded += len(pixels)
        means = F.avg_pool2d(pixels[:, :1], 4)
        squares = F.avg_pool2d(pixels[:, :1] ** 2, 4)
        return {"image": self.scale * torch.cat([means, (squares - means**2).clamp(min=0).sqrt()], dim=1)}


def block_means(**settings) -> FrozenEncoder:
    return FrozenEncoder(BlockMeans(**settings), "blocks")
