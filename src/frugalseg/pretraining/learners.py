"""What is trained: a network with what its method needs beside it, and the loss on a batch.

A learner's `forward` is the only thing that processes share work on, so it holds every pass through a network; its
`losses` turns what comes out into the loss. All that changes from step to step is in its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.blocks import ProjectionNet
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.gather import gathered
from frugalseg.pretraining.loss import contrastive_loss, triplet_pairs
from frugalseg.pretraining.pair_rules import PairRule
from frugalseg.pretraining.passes import passes
from frugalseg.pretraining.slice_metadata import SliceMetadata


class Learner(nn.Module, ABC):
    """A network in training.

    Attributes:
        network: what training is for; its encoder is what fine-tuning takes.
        views: into how many equal parts the images of a step fall, which a batch norm must not mix.
    """

    def __init__(self, network: ProjectionNet, views: int) -> None:
        super().__init__()
        self.network, self.views = network, views

    def forward(self, images: Tensor) -> Any:
        """(N, C, S, S) in [0, 1], view after view → what `losses` takes; here the network's vectors, (N, D)."""
        return torch.cat([self.network(part) for part in passes(self.network, images.chunk(self.views))])

    @property
    def embeds_alone(self) -> bool:
        """Whether `forward` turns images into the network's vectors and does nothing else."""
        return type(self).forward is Learner.forward

    @abstractmethod
    def losses(
        self, outputs: Any, facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss of one process's share of a batch under "loss", and what else is worth a curve.

        Args:
            outputs: what `forward` gave for N images.
            facts: of all slices of the store.
            rows: (N,) the images' slices.
            superpixels: (B, S, S) of the B slices that were drawn, for methods that read them from the store.
        """

    @property
    def graphable(self) -> bool:
        """Whether `forward`, `losses` and `after_step` may be captured as a CUDA graph, see `engine.loop.Task`."""
        return True

    def before_step(self, step: int) -> None:
        """Write what the next step depends on into tensors, `step` being the number of steps done."""

    @torch.no_grad()
    def after_step(self) -> None:
        """What follows a step of the optimiser."""


class Triplets(Learner):
    """PolyCL as published: images stacked as anchors, positives, negatives; nothing else in the batch matters."""

    def __init__(self, network: ProjectionNet, tau: float) -> None:
        super().__init__(network, views=3)
        self.tau = tau

    def losses(
        self, outputs: Tensor, facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """PolyCL's triplet loss."""
        pairs = triplet_pairs(len(outputs) // 3, outputs.device)
        return {"loss": contrastive_loss(outputs, *pairs, self.tau)}


class InBatch(Learner):
    """The one contrastive loss over all embeddings of the batch, of every process.

    Args:
        network: the network.
        rule: gives P and D.
        options: of the rule.
        tau: temperature.
        views: how many times each slice is seen.
        one_by_one: whether positives are compared with the negatives alone (`loss.contrastive_loss`).
    """

    def __init__(
        self,
        network: ProjectionNet,
        rule: PairRule,
        options: PretrainOptions,
        tau: float,
        views: int,
        one_by_one: bool = False,
    ) -> None:
        super().__init__(network, views)
        self.rule, self.options, self.tau, self.one_by_one = rule, options, tau, one_by_one

    def losses(
        self, outputs: Tensor, facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss, the share of embeddings that had a positive, and whether none had (1 or 0)."""
        positives, compared = self.rule(facts.at(gathered(rows)), self.options)
        anchors = positives.any(dim=1)
        vectors = gathered(outputs)
        return {
            "loss": contrastive_loss(vectors, positives, compared, self.tau, one_by_one=self.one_by_one),
            "anchors": anchors.float().mean(),
            "empty": (~anchors.any()).float(),
        }


class Classifier(Learner):
    """Supervised: the head has one logit an organ. The fair rival of methods that know which organs are present."""

    def __init__(self, network: ProjectionNet) -> None:
        super().__init__(network, views=1)

    def losses(
        self, outputs: Tensor, facts: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, the mean over slices and organs."""
        present = facts.present[rows]
        return {
            "loss": F.binary_cross_entropy_with_logits(outputs.float(), present),
            "accuracy": ((outputs > 0) == (present > 0)).float().mean(),
        }
