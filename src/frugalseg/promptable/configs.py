"""The configuration of a SAM, SAM-HQ or SAM 2 network, inferred from the shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamHQConfig,
    SamHQMaskDecoderConfig,
    SamHQPromptEncoderConfig,
    SamHQVisionConfig,
    SamMaskDecoderConfig,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from frugalseg.errors import RunError
from frugalseg.promptable.checkpoint import Checkpoint
from frugalseg.promptable.huggingface import name_from_path


@dataclass(frozen=True)
class HieraSettings:
    """Settings of SAM 2's image encoder that shapes do not determine (sam2/configs/sam2.1/*.yaml).

    Attributes:
        heads: attention heads of each stage.
        windows: side of the attention windows of each stage.
        global_blocks: the blocks with global attention.
    """

    heads: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]


HIERA: dict[tuple[int, tuple[int, ...]], HieraSettings] = {
    (96, (1, 2, 7, 2)): HieraSettings((1, 2, 4, 8), (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): HieraSettings((1, 2, 4, 8), (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): HieraSettings((2, 4, 8, 16), (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): HieraSettings((2, 4, 8, 16), (8, 4, 16, 8), (23, 33, 43)),
}
"""SAM 2's tiny, small, base+ and large, by the channels of the first stage and the blocks of each stage."""


def sam_config(checkpoint: Checkpoint) -> SamConfig:
    """The configuration of a SAM (of any size, or pruned) from its tensors' shapes."""
    return SamConfig(
        vision_config=SamVisionConfig(**_vision_options(checkpoint)),
        prompt_encoder_config=SamPromptEncoderConfig(**_prompt_encoder_options(checkpoint)),
        mask_decoder_config=SamMaskDecoderConfig(
            **_mask_decoder_options(checkpoint, "mask_decoder", "lin1"), layer_norm_eps=1e-5
        ),
    )


def hq_config(checkpoint: Checkpoint) -> SamHQConfig:
    """The configuration of a SAM-HQ from its tensors' shapes."""
    decoder = _mask_decoder_options(checkpoint, "mask_decoder", "lin1")
    return SamHQConfig(
        vision_config=SamHQVisionConfig(**_vision_options(checkpoint)),
        prompt_encoder_config=SamHQPromptEncoderConfig(**_prompt_encoder_options(checkpoint)),
        mask_decoder_config=SamHQMaskDecoderConfig(
            **decoder, layer_norm_eps=1e-5, vit_dim=checkpoint.shape("image_encoder.neck.0.weight", 4)[1]
        ),
    )


def _vision_options(checkpoint: Checkpoint) -> Mapping[str, Any]:
    hidden, channels, patch, _ = checkpoint.shape("image_encoder.patch_embed.proj.weight", 4)
    side = checkpoint.shape("image_encoder.pos_embed", 4)[1]
    blocks = checkpoint.find_indices(r"image_encoder\.blocks\.(\d+)\.")
    # Relative positions in a window of w rows go from 1 − w to w − 1.
    reach = [(checkpoint.shape(f"image_encoder.blocks.{i}.attn.rel_pos_h", 2)[0] + 1) // 2 for i in blocks]
    return {
        "hidden_size": hidden,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": side * patch,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": hidden // checkpoint.shape("image_encoder.blocks.0.attn.rel_pos_h", 2)[1],
        "window_size": min(reach),
        "global_attn_indexes": [i for i, rows in zip(blocks, reach, strict=True) if rows == side],
        "mlp_dim": checkpoint.shape("image_encoder.blocks.0.mlp.lin1.weight")[0],
        "output_channels": checkpoint.shape("image_encoder.neck.0.weight")[0],
        "num_pos_feats": checkpoint.shape("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 2)[1],
    }


def _prompt_encoder_options(checkpoint: Checkpoint) -> Mapping[str, Any]:
    patch = checkpoint.shape("image_encoder.patch_embed.proj.weight", 4)[2]
    return {
        "hidden_size": checkpoint.shape("prompt_encoder.no_mask_embed.weight", 2)[1],
        "image_size": checkpoint.shape("image_encoder.pos_embed", 4)[1] * patch,
        "patch_size": patch,
        "mask_input_channels": checkpoint.shape("prompt_encoder.mask_downscaling.3.weight")[0],
    }


def _mask_decoder_options(checkpoint: Checkpoint, decoder: str, mlp: str) -> Mapping[str, Any]:
    tokens, hidden = checkpoint.shape(f"{decoder}.mask_tokens.weight", 2)
    narrow = checkpoint.shape(f"{decoder}.transformer.layers.0.cross_attn_token_to_image.q_proj.weight")[0]
    return {
        "hidden_size": hidden,
        "mlp_dim": checkpoint.shape(f"{decoder}.transformer.layers.0.mlp.{mlp}.weight")[0],
        "num_hidden_layers": len(checkpoint.find_indices(rf"{decoder}\.transformer\.layers\.(\d+)\.")),
        "attention_downsample_rate": hidden // narrow,
        "num_multimask_outputs": tokens - 1,
        "iou_head_hidden_dim": checkpoint.shape(f"{decoder}.iou_prediction_head.layers.0.weight")[0],
    }


def sam2_config(checkpoint: Checkpoint) -> Sam2Config:
    """The configuration of a SAM 2 for single images from its tensors' shapes; see `sam2_video_config`."""
    size = _find_sam2_size(checkpoint)
    return Sam2Config(
        vision_config=_sam2_vision_config(checkpoint, size),
        prompt_encoder_config=Sam2PromptEncoderConfig(**_sam2_prompt_encoder_options(checkpoint, size)),
        mask_decoder_config=Sam2MaskDecoderConfig(**_mask_decoder_options(checkpoint, "sam_mask_decoder", "layers.0")),
    )


def sam2_video_config(checkpoint: Checkpoint) -> Sam2VideoConfig:
    """The configuration of a SAM 2 from its tensors' shapes.

    Shapes do not determine the image size: it is 512 where the file's name contains "medsam2", else 1024. SAM 2.1's
    files have temporal encodings of object pointers and an embedding for occluded objects, SAM 2.0's have neither.
    """
    shape, size = checkpoint.shape, _find_sam2_size(checkpoint)
    slots, _, _, memory = shape("maskmem_tpos_enc", 4)
    fuser = "memory_encoder.fuser.layers.0"
    return Sam2VideoConfig(
        vision_config=_sam2_vision_config(checkpoint, size),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(**_sam2_prompt_encoder_options(checkpoint, size)),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            **_mask_decoder_options(checkpoint, "sam_mask_decoder", "layers.0")
        ),
        image_size=size,
        num_maskmem=slots,
        enable_occlusion_spatial_embedding="no_obj_embed_spatial" in checkpoint.weights,
        enable_temporal_pos_encoding_for_object_pointers="obj_ptr_tpos_proj.weight" in checkpoint.weights,
        memory_attention_hidden_size=shape("memory_attention.norm.weight")[0],
        memory_attention_num_layers=len(checkpoint.find_indices(r"memory_attention\.layers\.(\d+)\.")),
        memory_attention_feed_forward_hidden_size=shape("memory_attention.layers.0.linear1.weight")[0],
        memory_attention_rope_feat_sizes=[size // 16, size // 16],
        memory_encoder_hidden_size=shape("memory_encoder.pix_feat_proj.weight")[0],
        memory_encoder_output_channels=memory,
        mask_downsampler_embed_dim=shape("memory_encoder.mask_downsampler.encoder.12.weight")[0],
        memory_fuser_num_layers=len(checkpoint.find_indices(r"memory_encoder\.fuser\.layers\.(\d+)\.")),
        memory_fuser_embed_dim=shape(f"{fuser}.dwconv.weight")[0],
        memory_fuser_intermediate_dim=shape(f"{fuser}.pwconv1.weight")[0],
    )


def _find_sam2_size(checkpoint: Checkpoint) -> int:
    return 512 if "medsam2" in name_from_path(checkpoint.path).lower() else 1024


def _sam2_prompt_encoder_options(checkpoint: Checkpoint, size: int) -> Mapping[str, Any]:
    return {
        "hidden_size": checkpoint.shape("sam_prompt_encoder.no_mask_embed.weight", 2)[1],
        "image_size": size,
        "mask_input_channels": checkpoint.shape("sam_prompt_encoder.mask_downscaling.3.weight")[0],
    }


def _sam2_vision_config(checkpoint: Checkpoint, size: int) -> Sam2VisionConfig:
    trunk = "image_encoder.trunk"
    blocks = checkpoint.find_indices(rf"{trunk}\.blocks\.(\d+)\.")
    channels = [checkpoint.shape(f"{trunk}.blocks.{i}.norm2.weight")[0] for i in blocks]
    stages = [(width, len(list(group))) for width, group in groupby(channels)]
    counts = tuple(count for _, count in stages)
    known = HIERA.get((channels[0], counts))
    if known is None:
        raise RunError(
            f"{checkpoint.path} is a SAM 2 of unknown size: {channels[0]} channels, blocks {counts}",
            "give SAM 2's or 2.1's tiny, small, base+ or large, or a Hugging Face folder",
        )
    backbone = Sam2HieraDetConfig(
        hidden_size=channels[0],
        num_attention_heads=known.heads[0],
        image_size=[size, size],
        blocks_per_stage=list(counts),
        embed_dim_per_stage=[width for width, _ in stages],
        num_attention_heads_per_stage=list(known.heads),
        window_size_per_stage=list(known.windows),
        global_attention_blocks=list(known.global_blocks),
        window_positional_embedding_background_size=list(checkpoint.shape(f"{trunk}.pos_embed", 4)[2:]),
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[width for width, _ in reversed(stages)],
        backbone_feature_sizes=[[size // stride, size // stride] for stride in (4, 8, 16)],
        fpn_hidden_size=checkpoint.shape("image_encoder.neck.convs.0.conv.weight")[0],
    )
