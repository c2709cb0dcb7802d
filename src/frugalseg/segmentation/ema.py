"""A network with the exponential moving average (EMA) of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EMAModel(nn.Module):
    """θ' ← d θ' + (1 − d) θ after every step (mean teacher, arXiv 1703.01780, eq. 2).

    The average lies in a flatter region of the loss than the last step, and is the better model where steps are noisy.
    It is part of this module's state, and so of checkpoints.

    Attributes:
        network: the trained network.
        decay: d, in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = network
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        self._averaged.requires_grad_(False).eval()

    @property
    def average(self) -> nn.Module:
        """The network with averaged weights, always in evaluation mode."""
        module: nn.Module = self._averaged.module
        return module

    def train(self, mode: bool = True) -> EMAModel:
        """Set training or evaluation mode of the network; the average stays in evaluation mode."""
        super().train(mode)
        self._averaged.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the trained network."""
        logits: Tensor = self.network(x)
        return logits

    @torch.no_grad()
    def update(self) -> None:
        """Update the average; the first update copies the network."""
        self._averaged.update_parameters(self.network)
