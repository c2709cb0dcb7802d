"""Exponential moving averages of weights."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def move_average(average: list[Tensor], latest: list[Tensor], rate: float | Tensor) -> None:
    """average ← (1 − rate) · average + rate · latest, in place; a rate of 1 copies.

    Args:
        average, latest: floating tensors in pairs of one shape.
        rate: in [0, 1]; a scalar tensor may change between replays of a CUDA graph.
    """
    torch._foreach_mul_(average, 1 - rate)
    torch._foreach_add_(average, torch._foreach_mul(latest, rate))
