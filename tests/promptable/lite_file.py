"""Files like LiteMedSAM's, with other weights."""

from __future__ import annotations

import torch
from torch import Tensor

PUBLISHED_PARTS = {
    ".stem.": ".patch_embed.seq.",
    ".convolutions.": ".layers.0.blocks.",
    **{f".reductions.{i}.": f".layers.{i}.downsample." for i in range(3)},
    **{f".stages.{i}.": f".layers.{i + 1}.blocks." for i in range(3)},
    ".expand.": ".conv1.",
    ".project.": ".conv3.",
    ".attention.out.": ".attn.proj.",
    ".attention.biases": ".attn.attention_biases",
    ".attention.": ".attn.",
    "shared_embedding.positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
    "point_embed.": "point_embeddings.",
    "mask_embed.conv1.": "mask_downscaling.0.",
    "mask_embed.layer_norm1.": "mask_downscaling.1.",
    "mask_embed.conv2.": "mask_downscaling.3.",
    "mask_embed.layer_norm2.": "mask_downscaling.4.",
    "mask_embed.conv3.": "mask_downscaling.6.",
    "upscale_conv1.": "output_upscaling.0.",
    "upscale_layer_norm.": "output_upscaling.1.",
    "upscale_conv2.": "output_upscaling.3.",
    "layer_norm_final_attn.": "norm_final_attn.",
    ".layer_norm": ".norm",
    ".proj_out.": ".layers.2.",
}
"""Our names' parts → the file's."""


def published(content: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file that LiteMedSAM's authors would publish of our weights; its norms change nothing."""
    file = {}
    for name, tensor in content.items():
        base, _, entry = name.rpartition(".")
        weight = content.get(f"{base}.weight", tensor)
        if not name.startswith("image_encoder.") or weight.ndim != 4 or f"{base}.bias" not in content:
            file[theirs(name)] = tensor
        elif entry == "weight":
            file |= with_norm(theirs(name).removesuffix(".weight"), tensor, content[f"{base}.bias"])
    return file


def theirs(name: str) -> str:
    """The file's name of one of our weights."""
    in_block = ".stages." in name
    name = name.replace(".mix.", ".local_conv." if in_block else ".conv2.")
    if in_block and ".attention." not in name:
        for layer in ("norm", "fc1", "fc2"):
            name = name.replace(f".{layer}.", f".mlp.{layer}.")
    if "_mlps." in name or "iou_prediction_head." in name:
        name = name.replace(".layers.0.", ".layers.1.").replace(".proj_in.", ".layers.0.")
    for ours, part in PUBLISHED_PARTS.items():
        name = name.replace(ours, part)
    return name


def with_norm(name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """A convolution without a bias and a batch norm that are together one with `weight` and `bias`."""
    variance = torch.rand(len(weight)) + 0.5
    deviation = (variance + 1e-5).sqrt()
    return {
        f"{name}.c.weight": weight * deviation.reshape(-1, 1, 1, 1),
        f"{name}.bn.weight": torch.ones(len(weight)),
        f"{name}.bn.bias": bias + 1,
        f"{name}.bn.running_mean": deviation,
        f"{name}.bn.running_var": variance,
        f"{name}.bn.num_batches_tracked": torch.tensor(7),
    }
