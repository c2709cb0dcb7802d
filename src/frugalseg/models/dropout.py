"""Dropout whose random numbers do not take a third of a training step on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 256
"""Values of a byte."""
LOWEST = -(2**63)


class Dropout(nn.Dropout):
    """PyTorch's dropout; on a CPU, one random byte per value decides, eight of which are drawn at once.

    PyTorch draws a number of 53 bits for every value, one by one. A byte is exact where the probability is a multiple
    of 1/256, as the published 0.25 is; others take PyTorch's way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape and memory layout."""
        dropped = LEVELS * self.p
        if not self.training or not x.is_cpu or not 0 < dropped < LEVELS or dropped % 1:
            return super().forward(x)
        kept = _draw_bytes(x).ge_(int(dropped))
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def _draw_bytes(x: Tensor) -> Tensor:
    """A random byte for every value of `x`, in its memory layout."""
    drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(LOWEST, None)
    return drawn.view(torch.uint8).as_strided(x.shape, torch.empty_like(x, device="meta").stride())
