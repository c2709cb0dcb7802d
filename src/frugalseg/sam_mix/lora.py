"""LoRA (arXiv 2106.09685) on queries and values of an image encoder, by `peft`.

SAM's encoders compute queries, keys and values in one linear layer. LoRA on that layer would share one low-rank
projection among all three, so it is split into three equivalent layers, two of which get peft's LoRA.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

QUERIES, VALUES = "queries", "values"


class SplitLinear(nn.Module):
    """A linear layer for queries, keys and values, split into three.

    Args:
        fused: (C → 3·C).
        heads: the number of heads if the rows are grouped by head (TinyViT); 1 if all queries come first, then all
            keys, then all values (SAM).
    """

    def __init__(self, fused: nn.Linear, heads: int) -> None:
        super().__init__()
        self.heads = heads
        weights = self._split_fused(fused.weight)
        biases = [None] * 3 if fused.bias is None else self._split_fused(fused.bias)
        layers = [_make_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        self.queries, self.keys, self.values = layers

    def _split_fused(self, rows: Tensor) -> list[Tensor]:
        parts = rows.detach().reshape(self.heads, 3, -1, *rows.shape[1:])
        return [parts[:, i].flatten(0, 1) for i in range(3)]

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, 3·C), in the order of the fused layer."""
        parts = [layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.queries, self.keys, self.values)]
        return torch.stack(parts, dim=-2).flatten(-3)


def _make_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def add_lora(encoder: nn.Module, rank: int) -> int:
    """Add LoRA to queries and values of every block of an image encoder, and freeze its other weights.

    The output is unchanged at first (B = 0); there is no scaling by α.

    Args:
        encoder: TinyViT, or the vision encoder of transformers' SAM; changed in place.
        rank: r.

    Returns:
        the number of blocks.
    """
    from peft import LoraConfig, inject_adapter_in_model

    blocks = 0
    for module in list(encoder.modules()):
        fused: Any = getattr(module, "qkv", None)
        if isinstance(fused, nn.Linear):
            # Only TinyViT's attention calls its heads so, and groups rows by head; SAM's does neither.
            module.qkv = SplitLinear(fused, int(getattr(module, "heads", 1)))
            blocks += 1
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=[QUERIES, VALUES], bias="none")
    inject_adapter_in_model(config, encoder)
    encoder.requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(is_lora(name))
    return blocks


def is_lora(name: str) -> bool:
    """Whether a parameter of this name belongs to LoRA."""
    return ".lora_" in name
