"""A network with the exponential moving average (EMA) of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from frugalseg.engine.moving_average import move_average

WARM_UP = 9
"""With it the average lags about a ninth of the steps so far behind, until its decay is reached."""


class EMAModel(nn.Module):
    """θ' ← (1 − r) θ' + r θ after every step (mean teacher, arXiv 1703.01780, eq. 2), where r = max(1 − d, 9 / (9 + n))
    in step n.

    The average lies in a flatter region of the loss than the last step, and is the better model where steps are noisy.
    It is part of this module's state, and so of checkpoints. At first it follows the network closely: weights and
    statistics of batch norms that are averaged over the whole of a short training belong to different networks, and
    such an average finds nothing.

    Attributes:
        network: the trained network.
        decay: d, in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self._averaged = AveragedModel(network)
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

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits of the trained network."""
        logits: Tensor = self.network(*inputs)
        return logits

    @torch.no_grad()
    def update(self) -> None:
        """Update the average; the first update copies the network.

        As `AveragedModel.update_parameters`, which makes a GPU wait to learn how many there were.
        """
        rate = (WARM_UP / (WARM_UP + self._averaged.n_averaged)).clamp(min=1 - self.decay)
        pairs = list(zip(_tensors(self.average), _tensors(self.network), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        move_average([average for average, _ in floating], [latest for _, latest in floating], rate)
        for average, latest in pairs:
            if not average.is_floating_point():  # how many batches a batch norm has seen
                average.copy_(latest)
        self._averaged.n_averaged.add_(1)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
