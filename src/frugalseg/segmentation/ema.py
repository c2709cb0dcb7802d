"""A network together with the moving average of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EMAModel(nn.Module):
    """θ' ← d θ' + (1 − d) θ after every step (mean teacher, arXiv 1703.01780, eq. 2).

    The average stands on a flatter place than the last step and is the better model where steps are noisy. It is part
    of this module's state, so a checkpoint holds it.

    Attributes:
        network: what is trained.
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
        """The network with averaged weights; it is never trained, so dropout and batch norms stay still."""
        module: nn.Module = self._averaged.module
        return module

    def train(self, mode: bool = True) -> EMAModel:
        """Training or evaluation mode of the network; the average stays in evaluation."""
        super().train(mode)
        self._averaged.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """What the trained network says."""
        logits: Tensor = self.network(x)
        return logits

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network; the first time it becomes the network."""
        self._averaged.update_parameters(self.network)
