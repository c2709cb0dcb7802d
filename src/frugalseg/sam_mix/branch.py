"""The segmentation branch: the three parts of a promptable model, with gradients.

`Promptable` is for frozen models; here the same parts are trained. It works for LiteMedSAM and for SAM, SlimSAM and
MedSAM as `transformers` has them.
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

    Prompt encoder and mask decoder are trained, the encoder's LoRA too where it has it. `state_dict` holds these
    alone: the encoder's own weights stay in the base model's file.

    Args:
        base: the model; its network is taken over, and changed.
        adapt: lora puts LoRA into the encoder, decoder leaves the encoder as it is.
        rank: of LoRA.
        dense: how the classifier's map reaches the decoder: as SAM's mask prompt, added to the encoder's map, or not.
            Both come times a learned number that starts at 0: LiteMedSAM was made without mask prompts, and no base
            knows such maps, so full from the start they would undo what the model can do, before it learns anything.
        threshold: of the classifier's map, from which on it counts as object.

    Attributes:
        name, signature, recipe: of the base model.
        share: that number; None where the map does not reach the decoder.

    Raises:
        OptionError: a model of a family that cannot be trained here.
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
        # Fourier features drawn once: a buffer in SAM's own code. The encoding of the places depends on them.
        self.prompt_encoder.shared_embedding.requires_grad_(False)
        self.share = nn.Parameter(torch.zeros(())) if dense != "none" else None
        self.register_buffer("positional_encoding", _positional_encoding(base), persistent=False)
        self.image_encoder.register_state_dict_post_hook(_keep_only_lora)
        self.image_encoder.register_load_state_dict_post_hook(_ignore_missing_base_weights)

    positional_encoding: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Framed pictures (B, 3, S, S) → maps (B, C, h, w)."""
        found: Any = self.image_encoder(pictures)
        maps: Tensor = found if isinstance(found, Tensor) else found[0]
        return maps

    def decode(self, maps: Tensor, boxes: Tensor, cams: Tensor) -> tuple[Tensor, Tensor]:
        """All masks of each prompt: SAM's three guesses, and before them the single one. What was made with one mask a
        prompt, as LiteMedSAM and MedSAM, has never learned to guess, and a few masks are too few to teach it (on livers
        of BTCV its three begin with a Dice loss of 0.84, the single one with 0.08).

        Args:
            maps: (N, C, h, w), one a prompt.
            boxes: (N, 4) in pixels of the framed picture, the maxima exclusive.
            cams: (N, S, S), the classifier's maps in [0, 1] on the framed picture.

        Returns:
            logits (N, 4, 4h, 4w) and the IoU expected of each (N, 4).
        """
        side = maps.shape[-1]
        # SAM's corners are the middles of the outermost pixels.
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
    if isinstance(base, LiteMedSAM):
        return base.network
    if isinstance(base, Sam):
        return base._network
    raise OptionError(
        f"--base: {base.name} cannot be trained by SAM-Mix", "give litemedsam, or a folder or file of SAM or MedSAM"
    )


def _positional_encoding(base: Promptable) -> Tensor:
    assert isinstance(base, (LiteMedSAM, Sam))
    encoding: Tensor = base.places if isinstance(base, LiteMedSAM) else base._places
    return encoding.detach().clone()


def _keep_only_lora(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix) and not is_lora(name)]:
        del state[name]


def _ignore_missing_base_weights(_module: nn.Module, incompatible: Any) -> None:
    # The list holds what any other part misses, too.
    mine = [name for name in incompatible.missing_keys if "image_encoder." in name and not is_lora(name)]
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in set(mine)]


def count_trained_parameters(branch: SamBranch) -> dict[str, int]:
    """Numbers of trained parameters: lora, prompt_encoder, mask_decoder, and share where it has one."""
    counts: dict[str, int] = {}
    for name, parameter in branch.named_parameters():
        if parameter.requires_grad:
            part = "lora" if is_lora(name) else name.split(".")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts
