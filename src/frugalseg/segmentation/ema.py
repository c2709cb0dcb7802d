"""A network together with the moving average of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from frugalseg.engine.moving_average import move_average


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
        self.network, self.decay = network, decay
        self._averaged = AveragedModel(network)
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
        """Move the average towards the network; the first time it becomes the network.

        As `AveragedModel.update_parameters`, which makes a GPU wait to learn whether it is the first time.
        """
        rate = torch.where(self._averaged.n_averaged == 0, 1.0, 1 - self.decay)
        pairs = list(zip(_tensors(self.average), _tensors(self.network), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        move_average([average for average, _ in floating], [latest for _, latest in floating], rate)
        for average, latest in pairs:
            if not average.is_floating_point():  # how many batches a batch norm has seen
                average.copy_(latest)
        self._averaged.n_averaged.add_(1)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
