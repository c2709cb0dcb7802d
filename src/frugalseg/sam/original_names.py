"""From the names in SAM's, SAM-HQ's and SAM 2's own files to those in transformers."""

from __future__ import annotations

from frugalseg.sam.names import PROMPTS_AND_DECODER, Rules

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
    (r"\.mask_downsampler\.encoder\.(\d+)\.", lambda found: f".mask_downsampler.{_downsampler(int(found[1]))}."),
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


def _downsampler(place: int) -> str:
    """Convolution, norm and activation alternate; the last convolution, after four of these, is the projection."""
    if place == 12:
        return "final_conv"
    return f"layers.{place // 3}.{'conv' if place % 3 == 0 else 'layer_norm'}"
