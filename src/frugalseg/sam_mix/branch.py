"""The segmentation branch: the three parts of a promptable model, trainable.

`Promptable` is for frozen models; here the same parts are trained. Supports LiteMedSAM, and SAM, SlimSAM and MedSAM in
the format of `transformers`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.errors import OptionError
from frugalseg.promptable.decoder import ALL, decode_masks
from frugalseg.promptable.huggingface import Sam
from frugalseg.promptable.litemedsam import LiteMedSAM
from frugalseg.promptable.protocol import Promptable
from frugalseg.sam_mix.lora import add_lora, is_lora
from frugalseg.sam_mix.prompts import to_mask_prompts

Adapt = Literal["lora", "decoder"]
Dense = Literal["mask", "added", "none"]


class SamBranch(nn.Module):
    """Image encoder, prompt encoder and mask decoder of a promptable model.

    Prompt encoder and mask decoder are trained, and the image encoder's LoRA if it has one. `state_dict` holds only
    these: the image encoder's own weights stay in the base model's file.

    Args:
        base: the model; its network is used in place, and modified.
        adapt: lora adds LoRA to the image encoder; decoder leaves the image encoder unchanged.
        rank: of LoRA.
        dense: input of the classifier's map to the decoder: as SAM's mask prompt, added to the encoder's map, or none.
            Either is scaled by a learned factor that starts at 0: LiteMedSAM was trained without mask prompts, and no
            base with such maps, so at full scale they would disrupt the pre-trained model.
        threshold: of the classifier's map, at and above which a pixel counts as object.

    Attributes:
        name, signature, recipe: of the base model.
        share: that factor; None where the map does not reach the decoder.

    Raises:
        OptionError: SAM-Mix cannot train models of this family.
    """

    def __init__(self, base: Promptable, adapt: Adapt, rank: int, dense: Dense, threshold: float) -> None:
        super().__init__()
        network = _network_of(base)
        self.name, self.signature, self.recipe = base.name, base.signature, base.recipe
        self.dense, self.threshold = dense, threshold
        self.image_encoder: nn.Module = (
            network.image_encoder if isinstance(base, LiteMedSAM) else network.vision_encoder
        )
        self.prompt_encoder: Any = network.prompt_encoder
        self.mask_decoder: Any = network.mask_decoder
        self.blocks = 0
        self.image_encoder.requires_grad_(False)
        if adapt == "lora":
            self.blocks = add_lora(self.image_encoder, rank)
        self.prompt_encoder.requires_grad_(True)
        self.mask_decoder.requires_grad_(True)
        # Fixed random Fourier features of the positional encoding, a buffer in SAM's own code.
        self.prompt_encoder.shared_embedding.requires_grad_(False)
        self.share = nn.Parameter(torch.zeros(())) if dense != "none" else None
        self.register_buffer("positional_encoding", _positional_encoding(base), persistent=False)
        self.image_encoder.register_state_dict_post_hook(_keep_only_lora)
        self.image_encoder.register_load_state_dict_post_hook(_ignore_missing_base_weights)

    positional_encoding: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Framed images (B, 3, S, S) → maps (B, C, h, w)."""
        found: Any = self.image_encoder(pictures)
        maps: Tensor = found if isinstance(found, Tensor) else found[0]
        return maps

    def decode(self, maps: Tensor, boxes: Tensor, cams: Tensor) -> tuple[Tensor, Tensor]:
        """All masks of each prompt: SAM's single mask, then its three alternatives.

        Models that were trained with one mask for each prompt, as LiteMedSAM and MedSAM, never learned the
        alternatives, and a few masks do not suffice (on livers of BTCV the three start with a Dice loss of 0.84, the
        single one with 0.08).

        Args:
            maps: (N, C, h, w), one for each prompt.
            boxes: (N, 4) in pixels of the framed image, the maxima exclusive.
            cams: (N, S, S), the classifier's maps in [0, 1] on the framed image.

        Returns:
            logits (N, 4, 4h, 4w) and the predicted IoU of each (N, 4).
        """
        side = maps.shape[-1]
        # The corners of SAM's boxes are the centres of the outermost pixels.
        corners = boxes - torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
        sparse, dense = self.prompt_encoder(None, None, corners[:, None], None)
        if self.share is not None and self.dense == "mask":
            given = to_mask_prompts(_resize(cams[:, None], 4 * side), self.threshold)
            dense = dense + self.share * (self.prompt_encoder.mask_embed(given) - dense)
        elif self.share is not None:
            maps = maps + self.share * _resize(cams[:, None], side)
        return decode_masks(self.mask_decoder, maps, self.positional_encoding, sparse[:, 0], dense, ALL)


def _resize(planes: Tensor, side: int) -> Tensor:
    return F.interpolate(planes, (side, side), mode="bilinear", antialias=True)


def _network_of(base: Promptable) -> Any:
    if isinstance(base, (LiteMedSAM, Sam)):
        return base.network
    raise OptionError(
        f"--base: {base.name} cannot be trained by SAM-Mix", "give litemedsam, or a folder or file of SAM or MedSAM"
    )


def _positional_encoding(base: Promptable) -> Tensor:
    assert isinstance(base, (LiteMedSAM, Sam))
    return base.position_encoding.detach().clone()


def _keep_only_lora(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix) and not is_lora(name)]:
        del state[name]


def _ignore_missing_base_weights(_module: nn.Module, incompatible: Any) -> None:
    # The list also holds missing keys of other parts, which stay in it.
    mine = [name for name in incompatible.missing_keys if "image_encoder." in name and not is_lora(name)]
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in set(mine)]


def count_trained_parameters(branch: SamBranch) -> dict[str, int]:
    """Numbers of trained parameters by part: lora, prompt_encoder, mask_decoder, and share if present."""
    counts: dict[str, int] = {}
    for name, parameter in branch.named_parameters():
        if parameter.requires_grad:
            part = "lora" if is_lora(name) else name.split(".")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts
