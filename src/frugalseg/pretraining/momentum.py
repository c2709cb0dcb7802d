"""Methods with a momentum encoder, a copy of the network that is called `slow` here: MoCo and BYOL."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.engine.moving_average import move_average
from frugalseg.models.blocks import ProjectionNet
from frugalseg.pretraining.gather import all_gather
from frugalseg.pretraining.learners import Learner
from frugalseg.pretraining.loss import byol_loss, contrastive_loss
from frugalseg.pretraining.pair_rules import queue_pairs
from frugalseg.pretraining.slice_metadata import SliceMetadata


def make_momentum_encoder(network: nn.Module) -> nn.Module:
    """A copy without gradients, which `update_momentum_encoder` updates."""
    return copy.deepcopy(network).requires_grad_(False)


def update_momentum_encoder(slow: nn.Module, fast: nn.Module, rate: float | Tensor) -> None:
    """Exponential moving average of the weights: slow ← (1 − rate)·slow + rate·fast, rate = 1 − momentum.

    Running statistics of batch norms are not averaged: the copy sees the batches too and has its own.
    """
    slow_weights, fast_weights = ([p.detach() for p in module.parameters()] for module in (slow, fast))
    move_average(slow_weights, fast_weights, rate)


class MoCo(Learner):
    """MoCo v2 (arXiv 1911.05722, 2003.04297): queries of the network against keys of its momentum encoder, and a queue.

    The first views are queries, the second ones keys. The queue starts empty and holds the latest keys of all
    processes, in the same order in each process.

    Args:
        network: the network to train.
        dim: length of its vectors.
        queue: number of keys in the queue.
        momentum: of the momentum encoder.
        tau: temperature.
    """

    queue: Tensor
    queue_rows: Tensor
    oldest: Tensor

    def __init__(self, network: ProjectionNet, dim: int, queue: int, momentum: float, tau: float) -> None:
        super().__init__(network, views=2)
        self.slow = make_momentum_encoder(network)
        self.momentum, self.tau = momentum, tau
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("queue_rows", torch.full((queue,), -1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self._new_keys: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(2B, 1, S, S), first views then second → queries (B, D) and keys (B, D)."""
        first, second = images.chunk(2)
        with torch.no_grad():
            keys = self.slow(second)
        return self.network(first), keys

    def losses(
        self, outputs: tuple[Tensor, Tensor], metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each query against its own key and the queue."""
        queries, keys = outputs
        own = rows[: len(queries)]
        positives, compared = queue_pairs(own, self.queue_rows)
        # Concatenation copies the queue, which changes in place before the backward pass needs its present values.
        loss = contrastive_loss(queries, positives, compared, self.tau, torch.cat([keys.float(), self.queue]))
        self._new_keys = all_gather(F.normalize(keys.detach().float(), dim=1)), all_gather(own)
        return {"loss": loss}

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the momentum encoder, and replace the oldest keys by the newest."""
        update_momentum_encoder(self.slow, self.network, 1 - self.momentum)
        assert self._new_keys is not None
        keys, rows = self._new_keys
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        kept = slice(-len(self.queue), None)  # the last, where there are more keys than the queue holds
        self.queue[places[kept]] = keys[kept]
        self.queue_rows[places[kept]] = rows[kept]
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))
        self._new_keys = None


class BYOL(Learner):
    """BYOL (arXiv 2006.07733): predict the momentum encoder's vector of the other view; no negatives.

    Args:
        network: the network to train.
        predictor: maps the network's vectors to predictions of the momentum encoder's.
        momentum: of the momentum encoder; None for the published one, which rises from 0.99 to 1 along a cosine.
        steps: of the whole run.
    """

    rate: Tensor

    def __init__(self, network: ProjectionNet, predictor: nn.Module, momentum: float | None, steps: int) -> None:
        super().__init__(network, views=2)
        self.predictor = predictor
        self.slow = make_momentum_encoder(network)
        self.momentum, self.steps = momentum, steps
        self.register_buffer("rate", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(2B, 1, S, S), first views then second → predictions (2B, D) and vectors of the momentum encoder (2B, D)."""
        views = images.chunk(2)  # the batch norms of projector and predictor must not mix views
        with torch.no_grad():
            slow = torch.cat([self.slow(view) for view in views])
        return torch.cat([self.predictor(self.network(view)) for view in views]), slow

    def losses(
        self, outputs: tuple[Tensor, Tensor], metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each view's prediction against the momentum encoder's vector of the other; mean of both directions."""
        predictions, slow = outputs
        first, second = slow.chunk(2)
        return {"loss": byol_loss(predictions, torch.cat([second, first]))}

    def before_step(self, step: int) -> None:
        """Set how far the slow copy will follow."""
        self.rate.fill_(1 - self.momentum_at(step + 1))

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the momentum encoder."""
        update_momentum_encoder(self.slow, self.network, self.rate)

    def momentum_at(self, step: int) -> float:
        """1 − (1 − 0.99)·(cos(π·step / steps) + 1) / 2, or the fixed momentum that was given."""
        if self.momentum is not None:
            return self.momentum
        return 1 - 0.01 * (math.cos(math.pi * step / self.steps) + 1) / 2
