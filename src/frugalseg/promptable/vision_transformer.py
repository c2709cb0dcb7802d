"""Vision transformers trained without labels, in the implementation of `transformers`: image encoders without prompts.

Sources: DINOv2 (Oquab et al., TMLR 2024), with registers (Darcet et al., ICLR 2024), DINOv3 (Siméoni et al., 2025).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel

from frugalseg.engine.device import autocast, resolve_precision
from frugalseg.options import Precision
from frugalseg.promptable.huggingface import SAM2, hash_network, load_pretrained_network, name_from_path
from frugalseg.promptable.protocol import FLOAT32, Embedding, Recipe, make_signature
from frugalseg.weights.huggingface_folder import read_model_type

KINDS: dict[str, Any] = {
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
"""model_type in config.json → class."""
PATCHES = 32
"""Patches on a side of the input image; position embeddings are resampled to that."""


class VisionTransformer:
    """A vision transformer as an `ImageEncoder`.

    Args:
        network: it is moved to `device` and frozen.
        name: shown to users.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Attributes:
        name, signature, weights_signature, recipe, device: see `ImageEncoder`.
    """

    def __init__(self, network: Any, name: str, device: torch.device, precision: Precision = "auto") -> None:
        self.name, self.device = name, device
        size = PATCHES * int(network.config.patch_size)
        # ImageNet's mean and SD, as SAM 2.
        self.recipe = Recipe(size, SAM2.mean, SAM2.std, scale=1, stretch=False, levels="continuous", fit="square")
        digest = hash_network(network)
        self.signature = make_signature(digest, self.recipe, resolve_precision(precision, device))
        self.weights_signature = make_signature(digest, self.recipe, FLOAT32)
        self._precision: Precision = precision
        self._network = network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Embedding:
        """Input images (B, 3, size, size) → {"image": (B, C, 32, 32) float32}, the last layer's patch tokens."""
        with autocast(self._precision, self.device):
            tokens = self._network(pixels.to(self.device)).last_hidden_state
        patches = tokens[:, -PATCHES * PATCHES :]  # class and register tokens come first
        return {"image": patches.float().transpose(1, 2).unflatten(2, (PATCHES, PATCHES)).contiguous()}


def is_vision_transformer(path: Path) -> bool:
    """Whether a Hugging Face folder holds such a network.

    Raises:
        OptionError, RunError: config.json is missing or damaged.
    """
    return read_model_type(path) in KINDS


def load_vision_transformer(path: Path, device: torch.device, precision: Precision = "auto") -> VisionTransformer:
    """The network in a Hugging Face folder; nothing is downloaded, and only tensors are unpickled.

    Raises:
        OptionError, RunError: files are missing or damaged, or do not fit each other; names the difference.
    """
    kind = read_model_type(path)
    network = load_pretrained_network(KINDS[kind], path)
    return VisionTransformer(network, f"{kind} ({name_from_path(path)})", device, precision)
