"""Networks of `transformers` with few and random weights, otherwise like the published ones."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoMaskDecoderConfig,
    EdgeTamVideoModel,
    EdgeTamVideoPromptEncoderConfig,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

SIZE = 64
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "output_channels": 16,
    "image_size": SIZE,
    "patch_size": 8,
    "window_size": 3,
    "global_attn_indexes": [1],
    "num_pos_feats": 8,
    "mlp_dim": 24,
}
PROMPTS = {"hidden_size": 16, "image_size": SIZE, "patch_size": 8, "mask_input_channels": 8}
DECODER = {"hidden_size": 16, "mlp_dim": 12, "iou_head_hidden_dim": 20, "layer_norm_eps": 1e-5}
HIDDEN = 128
"""Of SAM 2: more than the 64 channels of its memory, which pointers are cut into."""


def randomized(network: Any, seed: int = 0) -> Any:
    """With all weights random, also those that start as 0 or 1; objects are predicted as present."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25 + centre)
            if name.endswith("pred_obj_score_head.proj_out.bias"):
                parameter.fill_(20.0)
        for name, buffer in network.named_buffers():
            if name.endswith("positional_embedding"):  # SAM 2 has it twice, the same
                buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def sam(seed: int = 0) -> SamModel:
    config = SamConfig(vision_config=VIT, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER)
    network: SamModel = randomized(SamModel(config), seed)
    return network


def sam_hq(seed: int = 0) -> SamHQModel:
    decoder = {**DECODER, "vit_dim": VIT["hidden_size"]}
    network: SamHQModel = randomized(
        SamHQModel(SamHQConfig(vision_config=VIT, prompt_encoder_config=PROMPTS, mask_decoder_config=decoder)), seed
    )
    return network


def hiera(size: int = SIZE) -> Sam2VisionConfig:
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[size, size],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[3, 3],
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[size // stride, size // stride] for stride in (4, 8, 16)],
        fpn_hidden_size=HIDDEN,
    )


def sam2(seed: int = 0) -> Sam2Model:
    config = Sam2Config(
        vision_config=hiera(),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=HIDDEN, image_size=SIZE),
        mask_decoder_config=Sam2MaskDecoderConfig(hidden_size=HIDDEN, mlp_dim=32, iou_head_hidden_dim=32),
    )
    network: Sam2Model = randomized(Sam2Model(config), seed)
    return network


def _video(**more: Any) -> dict[str, Any]:
    return {
        "vision_config": hiera(),
        "image_size": SIZE,
        "memory_attention_hidden_size": HIDDEN,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [SIZE // 16, SIZE // 16],
        "memory_encoder_hidden_size": HIDDEN,
        "mask_downsampler_embed_dim": HIDDEN,
        "memory_fuser_embed_dim": HIDDEN,
        "memory_fuser_intermediate_dim": 32,
        **more,
    }


def sam2_video(seed: int = 0, **more: Any) -> Sam2VideoModel:
    decoder = Sam2VideoMaskDecoderConfig(hidden_size=HIDDEN, mlp_dim=32, iou_head_hidden_dim=32)
    config = Sam2VideoConfig(
        **_video(**more),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=HIDDEN, image_size=SIZE),
        mask_decoder_config=decoder,
        memory_attention_feed_forward_hidden_size=32,
    )
    network: Sam2VideoModel = randomized(Sam2VideoModel(config), seed)
    return network


def edgetam_video(seed: int = 0) -> EdgeTamVideoModel:
    """EdgeTAM's memory with SAM 2's image encoder, because its own is in timm."""
    config = EdgeTamVideoConfig(
        **_video(),
        prompt_encoder_config=EdgeTamVideoPromptEncoderConfig(hidden_size=HIDDEN, image_size=SIZE),
        mask_decoder_config=EdgeTamVideoMaskDecoderConfig(hidden_size=HIDDEN, mlp_dim=32, iou_head_hidden_dim=32),
        memory_attention_rope_k_sizes=[2, 2],
        memory_attention_mlp_hidden_size=32,
        perceiver_resampler_num_latents=4,
        perceiver_resampler_num_latents_2d=4,
    )
    network: EdgeTamVideoModel = randomized(EdgeTamVideoModel(config), seed)
    return network
