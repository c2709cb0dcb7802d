"""Methods with a slow copy of the network beside it: MoCo and BYOL."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.engine.moving_average import move_average
from frugalseg.models.blocks import ProjectionNet
from frugalseg.pretraining.gather import gathered
from frugalseg.pretraining.learners import Learner
from frugalseg.pretraining.loss import byol_loss, contrastive_loss
from frugalseg.pretraining.pair_rules import queue_masks
from frugalseg.pretraining.slice_metadata import SliceMetadata


def slow_copy(network: nn.Module) -> nn.Module:
    """A copy that no gradient reaches; `follow` moves it."""
    return copy.deepcopy(network).requires_grad_(False)


def follow(slow: nn.Module, fast: nn.Module, rate: float | Tensor) -> None:
    """Exponential moving average of the weights: slow ← (1 − rate)·slow + rate·fast, rate = 1 − momentum.

    Running statistics of batch norm stay the copy's own: it sees the batches too.
    """
    slow_weights, fast_weights = ([p.detach() for p in module.parameters()] for module in (slow, fast))
    move_average(slow_weights, fast_weights, rate)


class MoCo(Learner):
    """MoCo v2 (arXiv 1911.05722, 2003.04297): queries of the network against keys of its slow copy, and a queue.

    The first views are queries, the second ones keys. The queue starts empty and holds the latest keys of all
    processes in one order, the same for each of them.

    Args:
        network: the network.
        dim: length of its vectors.
        queue: number of keys remembered.
        momentum: of the slow copy.
        tau: temperature.
    """

    queue: Tensor
    queue_rows: Tensor
    oldest: Tensor

    def __init__(self, network: ProjectionNet, dim: int, queue: int, momentum: float, tau: float) -> None:
        super().__init__(network, views=2)
        self.slow = slow_copy(network)
        self.momentum, self.tau = momentum, tau
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("queue_rows", torch.full((queue,), -1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self._fresh: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(2B, 1, S, S), first views then second → queries (B, D) and keys (B, D)."""
        first, second = images.chunk(2)
        with torch.no_grad():
            keys = self.slow(second)
        return self.network(first), keys

    def losses(
        self, outputs: tuple[Tensor, Tensor], facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each query against its own key and the queue."""
        queries, keys = outputs
        own = rows[: len(queries)]
        positives, compared = queue_masks(own, self.queue_rows)
        # A copy: the queue moves on in place, while backward still needs what was compared with.
        loss = contrastive_loss(queries, positives, compared, self.tau, torch.cat([keys.float(), self.queue]))
        self._fresh = gathered(F.normalize(keys.detach().float(), dim=1)), gathered(own)
        return {"loss": loss}

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the slow copy follow, and the newest keys take the place of the oldest."""
        follow(self.slow, self.network, 1 - self.momentum)
        assert self._fresh is not None
        keys, rows = self._fresh
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        kept = slice(-len(self.queue), None)  # of more keys than the queue holds, the last
        self.queue[places[kept]] = keys[kept]
        self.queue_rows[places[kept]] = rows[kept]
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))
        self._fresh = None


class BYOL(Learner):
    """BYOL (arXiv 2006.07733): predict the slow copy's vector of the other view; no negatives.

    Args:
        network: the network.
        predictor: from the network's vectors to those of its slow copy.
        momentum: of the slow copy; None for the published 0.99 that rises to 1 along a cosine.
        steps: of the whole run.
    """

    rate: Tensor

    def __init__(self, network: ProjectionNet, predictor: nn.Module, momentum: float | None, steps: int) -> None:
        super().__init__(network, views=2)
        self.predictor = predictor
        self.slow = slow_copy(network)
        self.momentum, self.steps = momentum, steps
        self.register_buffer("rate", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(2B, 1, S, S), first views then second → predictions (2B, D) and slow vectors (2B, D), in that order."""
        views = images.chunk(2)  # the batch norms of projector and predictor take each view for itself
        with torch.no_grad():
            slow = torch.cat([self.slow(view) for view in views])
        return torch.cat([self.predictor(self.network(view)) for view in views]), slow

    def losses(
        self, outputs: tuple[Tensor, Tensor], facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each view's prediction against the slow vector of the other view; the mean of both directions."""
        predictions, slow = outputs
        first, second = slow.chunk(2)
        return {"loss": byol_loss(predictions, torch.cat([second, first]))}

    def before_step(self, step: int) -> None:
        """Set how far the slow copy will follow."""
        self.rate.fill_(1 - self.momentum_at(step + 1))

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the slow copy follow."""
        follow(self.slow, self.network, self.rate)

    def momentum_at(self, step: int) -> float:
        """1 − (1 − 0.99)·(cos(π·step / steps) + 1) / 2, or the one that was asked for."""
        if self.momentum is not None:
            return self.momentum
        return 1 - 0.01 * (math.cos(math.pi * step / self.steps) + 1) / 2
