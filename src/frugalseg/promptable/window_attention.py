"""Attention in the windows of a map, without the tokens that fill up the last windows.

Every such token is the same vector, so all of a window's are one key, whose weight is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from frugalseg.promptable.cpu_inference import attend


def attend_in_windows(projected: Tensor, filler: Tensor, biases: Tensor, side: int) -> Tensor:
    """Attention of the places of each window to each other and to its filler, where `cpu_inference.is_quick`.

    Args:
        projected: (B, H, W, heads · 3 · d) bf16; of each head the queries, keys and values.
        filler: (heads · 3 · d,), the same of a token that fills up a window.
        biases: (heads, side², side²), added to the scores of a window's places.
        side: of the windows; the last ones extend beyond the map.

    Returns:
        (B, H, W, heads · d) bf16.
    """
    batch, height, width, _ = projected.shape
    heads = len(biases)
    made = projected.new_empty(batch, height, width, projected.shape[-1] // 3)
    for (rows, tall), (columns, wide) in product(_split(height, side), _split(width, side)):
        # Here `tall` rows and `wide` columns of every window lie within the map.
        section = projected[:, rows, columns]
        grid = (batch, section.shape[1] // tall, section.shape[2] // wide)
        windows = section.reshape(batch, grid[1], tall, grid[2], wide, heads, 3, -1).permute(6, 0, 1, 3, 5, 2, 4, 7)
        queries, keys, values = windows.reshape(3, -1, heads, tall * wide, windows.shape[-1])
        own = biases
        if tall * wide < side * side:
            inside = torch.zeros(side, side, dtype=torch.bool)
            inside[:tall, :wide] = True
            near = biases[:, inside.flatten()]
            outside = near[:, :, ~inside.flatten()].logsumexp(-1, keepdim=True)
            own = torch.cat([near[:, :, inside.flatten()], outside], -1)
            _, filler_key, filler_value = filler.view(heads, 3, 1, -1).expand(len(keys), -1, -1, -1, -1).unbind(2)
            keys, values = torch.cat([keys, filler_key], 2), torch.cat([values, filler_value], 2)
        mixed = attend(queries, keys, values, own.to(projected.dtype))
        placed = mixed.view(*grid, heads, tall, wide, -1).permute(0, 1, 4, 2, 5, 3, 6)
        made[:, rows, columns].view(placed.shape).copy_(placed)
    return made


def _split(length: int, side: int) -> Iterator[tuple[slice, int]]:
    """The parts of an axis that whole windows and the last, incomplete one take, with the side of their windows."""
    whole, rest = length - length % side, length % side
    if whole:
        yield slice(0, whole), side
    if rest:
        yield slice(whole, length), rest
