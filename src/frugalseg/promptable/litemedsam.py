"""LiteMedSAM (Ma et al., github.com/bowang-lab/MedSAM, branch LiteMedSAM): MedSAM distilled into a small encoder.

The encoder is implemented in `promptable.tinyvit`; prompt encoder and mask decoder are those of transformers' SAM, at
256 pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from frugalseg.engine.device import autocast, resolve_precision
from frugalseg.engine.files import sha256
from frugalseg.models.weight_files import read_state_dict
from frugalseg.options import Precision
from frugalseg.promptable.decoder import ONE, SEVERAL, decode_in_batches, decode_masks, encode_prompts
from frugalseg.promptable.protocol import FLOAT32, Candidates, Embedding, Prompts, Recipe, make_signature
from frugalseg.promptable.state_dict_keys import PROMPTS_AND_DECODER, load_renamed
from frugalseg.promptable.tinyvit import PUBLISHED_NAMES, TinyViT, fold_norms

RECIPE = Recipe(size=256, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=True)
STRIDE = 4
"""Image pixels per pixel of the encoder's map."""
PROMPTS_PER_BATCH = {"cpu": 4, "mps": 16, "cuda": 64}
"""Limits memory (a prompt takes about 30 MB), and lets a CPU use its caches."""
LARGEST_FILE = 200 * 10**6
"""In bytes; far above the size of LiteMedSAM's file, far below that of SAM's."""


class LiteMedSAMNetwork(nn.Module):
    """The three parts of LiteMedSAM, named as in its file.

    Args:
        encoder: images (B, 3, S, S) → maps (B, channels, S/4, S/4).
        size: S.
        channels: of the encoder's maps.
    """

    def __init__(self, encoder: TinyViT, size: int = RECIPE.size, channels: int = 256) -> None:
        super().__init__()
        vision = SamVisionConfig(
            hidden_size=channels, output_channels=channels, num_pos_feats=channels // 2, image_size=size
        )
        prompts = SamPromptEncoderConfig(hidden_size=channels, image_size=size, patch_size=STRIDE)
        # SAM was trained with 1e-5; transformers' default differs.
        decoder = SamMaskDecoderConfig(
            hidden_size=channels, iou_head_hidden_dim=channels, mlp_dim=8 * channels, layer_norm_eps=1e-5
        )
        decoder._attn_implementation = "sdpa"
        self.image_encoder = encoder
        self.prompt_encoder = SamPromptEncoder(SamConfig(vision_config=vision, prompt_encoder_config=prompts))
        self.mask_decoder = SamMaskDecoder(decoder)
        self.side = size // STRIDE

    def encode_positions(self) -> Tensor:
        """The positional encoding of the map: (1, channels, side, side)."""
        grid = (torch.arange(self.side, device=self.prompt_encoder.no_mask_embed.weight.device) + 0.5) / self.side
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        encoded: Tensor = self.prompt_encoder.shared_embedding(torch.stack([columns, rows], dim=-1))
        return encoded.permute(2, 0, 1)[None]


class LiteMedSAM:
    """LiteMedSAM as a `Promptable`.

    Args:
        network: in evaluation mode, on `device`.
        weights: SHA-256 of the weight file.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Attributes:
        name, signature, recipe, device: see `Promptable`.
        weights_signature: see `ImageEncoder`.
    """

    name = "LiteMedSAM"

    def __init__(
        self,
        network: LiteMedSAMNetwork,
        weights: str,
        device: torch.device,
        precision: Precision = "auto",
        recipe: Recipe = RECIPE,
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.recipe = recipe
        self.device = device
        self.precision: Precision = precision
        self.signature = make_signature(self.name, weights, recipe, resolve_precision(precision, device))
        self.weights_signature = make_signature(self.name, weights, recipe, FLOAT32)
        with torch.no_grad():
            self.position_encoding = self.network.encode_positions()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Embedding:
        """Input images (B, 3, 256, 256) → {"image": (B, 256, 64, 64) float32 in `channels_last`}."""
        with autocast(self.precision, self.device):
            maps: Tensor = self.network.image_encoder(pixels.to(self.device))
        return {"image": maps.float()}

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        """See `Promptable`; logits have a resolution of 256, that of the image.

        Raises:
            ValueError: `prompts` have neither boxes nor points nor masks.
        """
        side, wanted = STRIDE * self.network.side, SEVERAL if several else ONE

        def decode(maps: Embedding, part: Prompts) -> tuple[Tensor, Tensor]:
            sparse, dense = encode_prompts(self.network.prompt_encoder, part, side)
            tokens = None if sparse is None else sparse[:, 0]
            with autocast(self.precision, self.device):
                return decode_masks(
                    self.network.mask_decoder,
                    maps["image"],
                    self.position_encoding,
                    tokens,
                    dense,
                    wanted,
                    part.image_index,
                )

        shape, at_once = (len(wanted), side), PROMPTS_PER_BATCH[self.device.type]
        return decode_in_batches(decode, embedding, prompts, shape, at_once, self.device)


def read_litemedsam(path: Path) -> dict[str, Tensor] | None:
    """The weights of a file of LiteMedSAM, which its first layer tells; None of another file.

    LiteMedSAM's has 39 MB, so much larger ones are not read.

    Raises:
        OptionError, RunError: the file is of another type or damaged.
    """
    if path.stat().st_size >= LARGEST_FILE:
        return None
    weights = read_state_dict(path)
    return weights if "image_encoder.patch_embed.seq.0.c.weight" in weights else None


def is_litemedsam(path: Path) -> bool:
    """Whether a file contains LiteMedSAM; errors as of `read_litemedsam`."""
    return read_litemedsam(path) is not None


def load_litemedsam(
    path: Path, device: torch.device, precision: Precision = "auto", weights: dict[str, Tensor] | None = None
) -> LiteMedSAM:
    """LiteMedSAM with the weights of its published file, read unless given. Only tensors are unpickled.

    Raises:
        OptionError, RunError: the file is of another type, damaged, or of another model; names the first difference.
    """
    network, weights = LiteMedSAMNetwork(TinyViT()), weights or read_state_dict(path)
    load_renamed(network, fold_norms(weights), PUBLISHED_NAMES + PROMPTS_AND_DECODER, path, "LiteMedSAM")
    return LiteMedSAM(network, sha256(path), device, precision)
