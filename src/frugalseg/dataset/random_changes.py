"""Parameters of random changes: every slice of a batch draws its own, all from one call of the random generator.

Nothing is read back from the device, so that a GPU need not be waited for and the draw may be part of a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Parameter(NamedTuple):
    """A number drawn from the uniform distribution over low…high; `neutral` is its value where nothing changes."""

    name: str
    low: float
    high: float
    neutral: float = 0.0


@dataclass(frozen=True)
class RandomChange:
    """A change that a slice undergoes with a probability.

    Attributes:
        p: the probability, in [0, 1].
        parameters: of the change; a slice that it spares gets the neutral value of each.
    """

    p: float
    parameters: tuple[Parameter, ...]


def draw(changes: Sequence[RandomChange], count: int, device: torch.device) -> dict[str, Tensor]:
    """Parameters of the changes for `count` slices, drawn from PyTorch's generator of the device.

    Returns:
        Name of each parameter → (count,) float32 on the device.
    """
    table = _table(tuple(changes), device)
    size = len(table.names)
    uniform = torch.rand(count, size + len(changes), device=device)
    values = torch.addcmul(table.low, uniform[:, :size], table.width)
    applied = (uniform[:, size:] < table.p).index_select(1, table.change)
    return dict(zip(table.names, torch.where(applied, values, table.neutral).unbind(1), strict=True))


class _Table(NamedTuple):
    """The parameters of several changes side by side, (N,) each, and the probabilities of the changes, (M,).

    `change` says which of the M changes each parameter belongs to.
    """

    names: tuple[str, ...]
    low: Tensor
    width: Tensor
    neutral: Tensor
    change: Tensor
    p: Tensor


@lru_cache
def _table(changes: tuple[RandomChange, ...], device: torch.device) -> _Table:
    """Made once for each device: copying numbers to a GPU makes it wait."""
    rows = [(parameter, i) for i, change in enumerate(changes) for parameter in change.parameters]
    names, low, high, neutral = zip(*(parameter for parameter, _ in rows), strict=True)
    lows, highs = torch.tensor(low), torch.tensor(high)
    tensors = lows, highs - lows, torch.tensor(neutral), torch.tensor([i for _, i in rows])
    p = torch.tensor([change.p for change in changes])
    return _Table(names, *(tensor.to(device) for tensor in (*tensors, p)))
