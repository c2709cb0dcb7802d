"""The transformer of a Vision Transformer (arXiv 2010.11929) on a map of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one matrix."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed


class TransformerBlock(nn.Module):
    """Attention, then a two-layer perceptron with GELU, both pre-normalised and with residual connections."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        x = x + self.attention(self.norm1(x))
        hidden = self.dropout(F.gelu(self.fc1(self.norm2(x))))
        added: Tensor = self.dropout(self.fc2(hidden))
        return x + added


class Transformer(nn.Module):
    """Tokens from a map by a 1×1 convolution, learned positions, blocks, and a norm at the end.

    Args:
        inputs: channels of the map.
        dim, heads, hidden, depth: length of a token, heads and hidden units of a block, number of blocks.
        dropout: of tokens and of both linear layers; attention has none, as in TransUNet.
        grid: side of the table of positions, which is resampled for maps of another size.
    """

    def __init__(
        self, inputs: int, dim: int, heads: int, hidden: int, depth: int, dropout: float, grid: int = 16
    ) -> None:
        super().__init__()
        self.grid = grid
        self.embedding = nn.Conv2d(inputs, dim, 1)
        self.positions = nn.Parameter(torch.zeros(1, grid * grid, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → tokens as a map, (B, dim, H, W)."""
        size = (x.shape[-2], x.shape[-1])
        tokens = self.embedding(x).flatten(2).transpose(1, 2)
        tokens = self.dropout(tokens + resample_positions(self.positions, size))
        for block in self.blocks:
            tokens = block(tokens)
        encoded: Tensor = self.norm(tokens)
        return encoded.transpose(1, 2).reshape(len(x), -1, *size)


def resample_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample a square table of positions (1, N, D) to a map of H×W: (1, H·W, D), bilinear, corners aligned."""
    side = round(int(positions.shape[1]) ** 0.5)
    if size == (side, side):
        return positions
    table = positions.transpose(1, 2).reshape(1, -1, side, side)
    return F.interpolate(table, size, mode="bilinear", align_corners=True).flatten(2).transpose(1, 2)
