"""Networks of `transformers` with weights from their authors' files.

These are segment-anything's and SAM-HQ's `.pth`, SAM 2's `.pt`, and files of models fine-tuned from them. The tensors
of a file must be exactly those of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import Sam2Model, Sam2VideoModel, SamHQModel, SamModel
from transformers.initialization import no_init_weights

from frugalseg.errors import RunError
from frugalseg.options import Precision
from frugalseg.promptable.checkpoint import CURE, Checkpoint
from frugalseg.promptable.configs import hq_config, sam2_config, sam2_video_config, sam_config
from frugalseg.promptable.huggingface import HuggingFaceModel, to_promptable
from frugalseg.promptable.state_dict_keys import HQ_NAMES, SAM2_NAMES, SAM_NAMES, Rules, load_renamed


def load_original_checkpoint(path: Path, device: torch.device, precision: Precision = "auto") -> HuggingFaceModel:
    """A SAM, MedSAM, SAM-HQ or SAM 2 model from its authors' file. Only tensors are unpickled.

    A file with "medsam" in its name gets MedSAM's recipe, since its tensors have the names and shapes of SAM's.

    Args:
        path: sam_vit_{b,l,h}_….pth, medsam_vit_b.pth, sam_hq_vit_{b,l,h}.pth, sam2.1_hiera_….pt and the like.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        OptionError: the file is missing or of another type.
        RunError: it is damaged or belongs to another model; names the first difference.
    """
    checkpoint = Checkpoint(path)
    if checkpoint.family != "SAM 2":
        return to_promptable(build_sam_network(checkpoint), path, device, precision)
    # The whole file is checked; weights that only propagation needs are then dropped.
    weights = build_sam2_network(checkpoint).state_dict()
    network = _build_network(lambda: Sam2Model(sam2_config(checkpoint)), checkpoint)
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return to_promptable(network, path, device, precision)


def build_sam_network(checkpoint: Checkpoint) -> Any:
    """`SamModel` or `SamHQModel` with the weights of a checkpoint; `RunError` names the first difference."""
    if checkpoint.family == "SAM-HQ":
        network, rules = _build_network(lambda: SamHQModel(hq_config(checkpoint)), checkpoint), HQ_NAMES
    else:
        network, rules = _build_network(lambda: SamModel(sam_config(checkpoint)), checkpoint), SAM_NAMES
    return _load_weights(network, dict(checkpoint.weights), "prompt_encoder", rules, checkpoint)


def build_sam2_network(checkpoint: Checkpoint) -> Any:
    """`Sam2VideoModel` with the weights of a checkpoint; `RunError` names the first difference."""
    network = _build_network(lambda: Sam2VideoModel(sam2_video_config(checkpoint)), checkpoint)
    weights = dict(checkpoint.weights)
    table = "sam_prompt_encoder.point_embeddings"
    for i in range(4):
        checkpoint.shape(f"{table}.{i}.weight")
    # Four tables of one row in the file are one table of four rows in transformers.
    weights[f"{table}.weight"] = torch.cat([weights.pop(f"{table}.{i}.weight") for i in range(4)])
    return _load_weights(network, weights, "sam_prompt_encoder", SAM2_NAMES, checkpoint)


def _build_network(build: Callable[[], Any], checkpoint: Checkpoint) -> Any:
    """A network without initialised weights."""
    try:
        with no_init_weights():
            return build()
    except (ValueError, TypeError, ArithmeticError, LookupError, StrictDataclassError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(
            f"{checkpoint.path}: no {checkpoint.family} has weights of such shapes ({reason})", CURE
        ) from error


def _load_weights(network: Any, weights: dict[str, Tensor], prompts: str, rules: Rules, checkpoint: Checkpoint) -> Any:
    encoding = f"{prompts}.pe_layer.positional_encoding_gaussian_matrix"
    checkpoint.shape(encoding)
    # transformers stores the positional encoding twice.
    weights["shared_image_embedding.positional_embedding"] = weights[encoding]
    load_renamed(network, weights, rules, checkpoint.path, checkpoint.family)
    return network
