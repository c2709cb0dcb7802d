"""Rename the weights of published files to the names of the networks here, and load them strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from frugalseg.errors import RunError
from frugalseg.models.weight_files import load_strictly

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Regular expressions and their replacements, applied in order."""

_MASK_LAYERS = {"0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3"}
_UPSCALING = {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"}
_MLP = r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\."

PROMPTS_AND_DECODER: Rules = (
    (r"pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"point_embeddings\.", "point_embed."),
    (r"mask_downscaling\.([01346])\.", lambda found: f"mask_embed.{_MASK_LAYERS[found[1]]}."),
    (r"output_upscaling\.([013])\.", lambda found: f"{_UPSCALING[found[1]]}."),
    (_MLP + r"0\.", r"\1.proj_in."),
    (_MLP + r"1\.", r"\1.layers.0."),
    (_MLP + r"2\.", r"\1.proj_out."),
    (r"norm_final_attn\.", "layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
)
"""SAM's prompt encoder and mask decoder: from Meta's names to those of transformers."""


def rename_key(name: str, rules: Rules) -> str:
    """The name of a weight after all rules."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def load_renamed(module: nn.Module, weights: Mapping[str, Tensor], rules: Rules, path: Path, model: str) -> None:
    """Rename and load the weights of a file, which must be exactly the module's; see `load_strictly`.

    Args:
        module: what to load into; unchanged on any error.
        weights: by the file's names.
        rules: from the file's names to the module's.
        path: the file.
        model: name of the model, for messages.

    Raises:
        RunError: names the first weight that is missing, unexpected, doubled, of another shape, or not finite.
    """
    names: dict[str, str] = {}
    for theirs in weights:
        ours = rename_key(theirs, rules)
        if ours in names:
            raise RunError(
                f"{path} does not fit {model}: {theirs} and {names[ours]} are the same weight",
                "give the weights as their authors publish them",
            )
        names[ours] = theirs
    load_strictly(module, {ours: weights[theirs] for ours, theirs in names.items()}, path, model, names)


_NECK = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
_TWO = {"0": "proj_in", "1": "proj_out"}
_THREE = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}

SAM_NAMES: Rules = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.neck\.([0123])\.", lambda found: f".neck.{_NECK[found[1]]}."),
    *PROMPTS_AND_DECODER,
)
"""From the names in segment-anything's files to transformers' `SamModel`."""

HQ_NAMES: Rules = (
    *SAM_NAMES,
    (r"\.hf_token\.", ".hq_token."),
    (r"\.hf_mlp\.layers\.([012])\.", lambda found: f".hq_mask_mlp.{_THREE[found[1]]}."),
    *(
        (rf"\.{theirs}\.{layer}\.", f".{ours}_{part}.")
        for theirs, ours in (
            ("compress_vit_feat", "compress_vit"),
            ("embedding_encoder", "encoder"),
            ("embedding_maskfeature", "mask"),
        )
        for layer, part in (("0", "conv1"), ("1", "norm"), ("3", "conv2"))
    ),
)
"""From the names in SAM-HQ's files to transformers' `SamHQModel`."""

SAM2_NAMES: Rules = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.mlp\.layers\.([01])\.", lambda found: f".mlp.{_TWO[found[1]]}."),
    (r"\.pred_obj_score_head\.layers\.([012])\.", lambda found: f".pred_obj_score_head.{_THREE[found[1]]}."),
    (r"^obj_ptr_proj\.layers\.([012])\.", lambda found: f"object_pointer_proj.{_THREE[found[1]]}."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (
        r"\.mask_downsampler\.encoder\.(\d+)\.",
        lambda found: f".mask_downsampler.{_rename_downsampler_layer(int(found[1]))}.",
    ),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"\.norm\.", ".layer_norm."),
    (r"\.out_proj\.", ".o_proj."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    *PROMPTS_AND_DECODER,
)
"""From the names in SAM 2's files to transformers' `Sam2VideoModel`."""


def _rename_downsampler_layer(place: int) -> str:
    """Rename layer `place`: convolution, norm, activation, four times; then the final convolution, a projection."""
    if place == 12:
        return "final_conv"
    return f"layers.{place // 3}.{'conv' if place % 3 == 0 else 'layer_norm'}"
