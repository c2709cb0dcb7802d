"""Content of the authors' files: names and shapes, as defined by the modules of their code.

segment-anything: modeling/{image_encoder,prompt_encoder,mask_decoder,transformer}.py and build_sam.py;
SAM-HQ: segment_anything/modeling/mask_decoder_hq.py; SAM 2: sam2/modeling/{backbones/hieradet,backbones/image_encoder,
memory_attention,memory_encoder,sam2_base}.py, sam2/modeling/sam/*.py and configs/sam2.1/*.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int, kernel: tuple[int, ...] = (), bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs, *kernel)}
    return {**shapes, f"{name}.bias": (outputs,)} if bias else shapes


def transposed(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs, 2, 2), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def mlp(name: str, widths: Sequence[int]) -> Shapes:
    shapes: Shapes = {}
    for i in range(len(widths) - 1):
        shapes |= linear(f"{name}.layers.{i}", widths[i], widths[i + 1])
    return shapes


def attention(name: str, width: int, inner: int, keys: int | None = None) -> Shapes:
    shapes = linear(f"{name}.q_proj", width, inner)
    for part in ("k_proj", "v_proj"):
        shapes |= linear(f"{name}.{part}", keys or width, inner)
    return shapes | linear(f"{name}.out_proj", inner, width)


def prompt_encoder(name: str, width: int, mask: int) -> Shapes:
    shapes: Shapes = {f"{name}.pe_layer.positional_encoding_gaussian_matrix": (2, width // 2)}
    for i in range(4):
        shapes[f"{name}.point_embeddings.{i}.weight"] = (1, width)
    shapes |= {f"{name}.not_a_point_embed.weight": (1, width), f"{name}.no_mask_embed.weight": (1, width)}
    shapes |= linear(f"{name}.mask_downscaling.0", 1, mask // 4, (2, 2)) | norm(f"{name}.mask_downscaling.1", mask // 4)
    shapes |= linear(f"{name}.mask_downscaling.3", mask // 4, mask, (2, 2)) | norm(f"{name}.mask_downscaling.4", mask)
    return shapes | linear(f"{name}.mask_downscaling.6", mask, width, (1, 1))


def mask_decoder(name: str, width: int, hidden: int, score: int, two_layers: bool) -> Shapes:
    """SAM's decoder; SAM 2 has other names for the transformer's two layers."""
    shapes: Shapes = {f"{name}.iou_token.weight": (1, width), f"{name}.mask_tokens.weight": (4, width)}
    for i in range(2):
        layer = f"{name}.transformer.layers.{i}"
        shapes |= attention(f"{layer}.self_attn", width, width)
        for part in ("cross_attn_token_to_image", "cross_attn_image_to_token"):
            shapes |= attention(f"{layer}.{part}", width, width // 2)
        for k in range(1, 5):
            shapes |= norm(f"{layer}.norm{k}", width)
        if two_layers:
            shapes |= mlp(f"{layer}.mlp", (width, hidden, width))
        else:
            shapes |= linear(f"{layer}.mlp.lin1", width, hidden) | linear(f"{layer}.mlp.lin2", hidden, width)
    shapes |= attention(f"{name}.transformer.final_attn_token_to_image", width, width // 2)
    shapes |= norm(f"{name}.transformer.norm_final_attn", width)
    shapes |= transposed(f"{name}.output_upscaling.0", width, width // 4)
    shapes |= norm(f"{name}.output_upscaling.1", width // 4)
    shapes |= transposed(f"{name}.output_upscaling.3", width // 4, width // 8)
    for i in range(4):
        shapes |= mlp(f"{name}.output_hypernetworks_mlps.{i}", (width, width, width, width // 8))
    return shapes | mlp(f"{name}.iou_prediction_head", (width, score, score, 4))


def sam(
    hidden: int = 768,
    depth: int = 12,
    heads: int = 12,
    everywhere: Sequence[int] = (2, 5, 8, 11),
    width: int = 256,
    side: int = 64,
    patch: int = 16,
    window: int = 14,
    wide: int = 4,
    decoder: int = 2048,
) -> Shapes:
    """segment-anything; sam_vit_b by default."""
    encoder = "image_encoder"
    shapes: Shapes = {f"{encoder}.pos_embed": (1, side, side, hidden)}
    shapes |= linear(f"{encoder}.patch_embed.proj", 3, hidden, (patch, patch))
    for i in range(depth):
        block = f"{encoder}.blocks.{i}"
        reach = 2 * (side if i in everywhere else window) - 1
        shapes |= norm(f"{block}.norm1", hidden) | norm(f"{block}.norm2", hidden)
        shapes |= {f"{block}.attn.rel_pos_{axis}": (reach, hidden // heads) for axis in "hw"}
        shapes |= linear(f"{block}.attn.qkv", hidden, 3 * hidden) | linear(f"{block}.attn.proj", hidden, hidden)
        shapes |= linear(f"{block}.mlp.lin1", hidden, wide * hidden)
        shapes |= linear(f"{block}.mlp.lin2", wide * hidden, hidden)
    shapes |= linear(f"{encoder}.neck.0", hidden, width, (1, 1), bias=False) | norm(f"{encoder}.neck.1", width)
    shapes |= linear(f"{encoder}.neck.2", width, width, (3, 3), bias=False) | norm(f"{encoder}.neck.3", width)
    shapes |= prompt_encoder("prompt_encoder", width, 16)
    return shapes | mask_decoder("mask_decoder", width, decoder, width, two_layers=False)


def sam_hq(hidden: int = 768, width: int = 256) -> Shapes:
    """The weights of SAM-HQ's file that SAM's does not have."""
    name = "mask_decoder"
    shapes: Shapes = {f"{name}.hf_token.weight": (1, width)}
    shapes |= mlp(f"{name}.hf_mlp", (width, width, width, width // 8))
    shapes |= transposed(f"{name}.compress_vit_feat.0", hidden, width) | norm(f"{name}.compress_vit_feat.1", width)
    shapes |= transposed(f"{name}.compress_vit_feat.3", width, width // 8)
    shapes |= transposed(f"{name}.embedding_encoder.0", width, width // 4)
    shapes |= norm(f"{name}.embedding_encoder.1", width // 4)
    shapes |= transposed(f"{name}.embedding_encoder.3", width // 4, width // 8)
    shapes |= linear(f"{name}.embedding_maskfeature.0", width // 8, width // 4, (3, 3))
    shapes |= norm(f"{name}.embedding_maskfeature.1", width // 4)
    return shapes | linear(f"{name}.embedding_maskfeature.3", width // 4, width // 8, (3, 3))


def sam2(
    embed: int = 96,
    stages: Sequence[int] = (1, 2, 7, 2),
    background: int = 7,
    width: int = 256,
    hidden: int = 2048,
    layers: int = 4,
    fused: int = 1024,
    newer: bool = True,
) -> Shapes:
    """SAM 2.1 (or, not `newer`, 2.0); sam2.1_hiera_tiny by default."""
    trunk = "image_encoder.trunk"
    shapes: Shapes = {
        f"{trunk}.pos_embed": (1, embed, background, background),
        f"{trunk}.pos_embed_window": (1, embed, 8, 8),
    }
    shapes |= linear(f"{trunk}.patch_embed.proj", 3, embed, (7, 7))
    before, i, channels = embed, 0, []
    for stage, count in enumerate(stages):
        here = embed * 2**stage
        channels.append(here)
        for _ in range(count):
            block = f"{trunk}.blocks.{i}"
            shapes |= norm(f"{block}.norm1", before) | norm(f"{block}.norm2", here)
            shapes |= linear(f"{block}.attn.qkv", before, 3 * here) | linear(f"{block}.attn.proj", here, here)
            shapes |= mlp(f"{block}.mlp", (here, 4 * here, here))
            if before != here:
                shapes |= linear(f"{block}.proj", before, here)
            before, i = here, i + 1
    for k, here in enumerate(reversed(channels)):
        shapes |= linear(f"image_encoder.neck.convs.{k}.conv", here, width, (1, 1))
    return shapes | _memory(width, hidden, layers, fused, newer) | _sam2_heads(width, hidden)


def _sam2_heads(width: int, hidden: int) -> Shapes:
    decoder = "sam_mask_decoder"
    shapes = prompt_encoder("sam_prompt_encoder", width, 16) | mask_decoder(decoder, width, hidden, width, True)
    shapes[f"{decoder}.obj_score_token.weight"] = (1, width)
    shapes |= mlp(f"{decoder}.pred_obj_score_head", (width, width, width, 1))
    shapes |= linear(f"{decoder}.conv_s0", width, width // 8, (1, 1))
    return shapes | linear(f"{decoder}.conv_s1", width, width // 4, (1, 1))


def _memory(width: int, hidden: int, layers: int, fused: int, newer: bool) -> Shapes:
    shapes: Shapes = {
        "maskmem_tpos_enc": (7, 1, 1, 64),
        "no_mem_embed": (1, 1, width),
        "no_mem_pos_enc": (1, 1, width),
        "no_obj_ptr": (1, width),
    }
    if newer:
        shapes |= {"no_obj_embed_spatial": (1, 64)} | linear("obj_ptr_tpos_proj", width, 64)
    shapes |= linear("mask_downsample", 1, 1, (4, 4)) | mlp("obj_ptr_proj", (width, width, width, width))
    for i in range(layers):
        layer = f"memory_attention.layers.{i}"
        shapes |= attention(f"{layer}.self_attn", width, width)
        shapes |= attention(f"{layer}.cross_attn_image", width, width, keys=64)
        shapes |= linear(f"{layer}.linear1", width, hidden) | linear(f"{layer}.linear2", hidden, width)
        for k in (1, 2, 3):
            shapes |= norm(f"{layer}.norm{k}", width)
    shapes |= norm("memory_attention.norm", width)
    down = "memory_encoder.mask_downsampler.encoder"
    for k in range(4):
        shapes |= linear(f"{down}.{3 * k}", 4**k, 4 ** (k + 1), (3, 3)) | norm(f"{down}.{3 * k + 1}", 4 ** (k + 1))
    shapes |= linear(f"{down}.12", 256, width, (1, 1)) | linear("memory_encoder.pix_feat_proj", width, width, (1, 1))
    for i in range(2):
        layer = f"memory_encoder.fuser.layers.{i}"
        shapes |= (
            {f"{layer}.gamma": (width,)} | linear(f"{layer}.dwconv", 1, width, (7, 7)) | norm(f"{layer}.norm", width)
        )
        shapes |= linear(f"{layer}.pwconv1", width, fused) | linear(f"{layer}.pwconv2", fused, width)
    return shapes | linear("memory_encoder.out_proj", width, 64, (1, 1))


TINY_SAM = sam(hidden=16, depth=3, heads=2, everywhere=(1,), width=16, side=8, patch=8, window=3, wide=2, decoder=24)
TINY_SAM2 = sam2(embed=8, stages=(1, 1, 2, 1), background=3, width=128, hidden=32, layers=1, fused=24)


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def save_hollow(shapes: Shapes, path: Path, wrapper: str | None = None) -> Path:
    """A file of all these shapes that is small: every tensor is one number, expanded."""
    weights = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    torch.save({wrapper: weights} if wrapper else weights, path)
    return path
