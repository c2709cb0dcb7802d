"""What is trained: a network, further modules that its method needs, and the loss on a batch.

Only a learner's `forward` is distributed over processes, so every pass through a network happens there; its `losses`
computes the loss from the outputs. Everything that changes from step to step is in its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.blocks import ProjectionNet
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.gather import all_gather
from frugalseg.pretraining.loss import contrastive_loss, triplet_pairs
from frugalseg.pretraining.pair_rules import PairRule
from frugalseg.pretraining.passes import group_into_passes
from frugalseg.pretraining.slice_metadata import SliceMetadata


class Learner(nn.Module, ABC):
    """A network in training.

    Attributes:
        network: the network to train; fine-tuning starts from its encoder.
        views: number of equal parts of a step's images that batch norms must not mix.
    """

    def __init__(self, network: ProjectionNet, views: int) -> None:
        super().__init__()
        self.network, self.views = network, views

    def forward(self, images: Tensor) -> Any:
        """(N, C, S, S) in [0, 1], view after view → outputs for `losses`; here the network's vectors, (N, D)."""
        return torch.cat([self.network(part) for part in group_into_passes(self.network, images.chunk(self.views))])

    @property
    def only_embeds(self) -> bool:
        """Whether `forward` only computes the network's vectors of the images."""
        return type(self).forward is Learner.forward

    @abstractmethod
    def losses(
        self, outputs: Any, metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss of one process's share of a batch under "loss", and other figures to log.

        Args:
            outputs: of `forward` for N images.
            metadata: of all slices of the store.
            rows: (N,) rows of the store of the images' slices.
            superpixels: (B, S, S) of the B drawn slices, for methods that read them from the store.
        """

    @property
    def graphable(self) -> bool:
        """Whether a CUDA graph can capture `forward`, `losses` and `after_step`, see `engine.task.TrainingTask`."""
        return True

    def before_step(self, step: int) -> None:
        """Write what the next step depends on into tensors, `step` being the number of steps done."""

    @torch.no_grad()
    def after_step(self) -> None:
        """Called after a step of the optimiser."""


class TripletLearner(Learner):
    """PolyCL's triplets: images stacked as anchors, positives, negatives; each triplet is compared on its own.

    All three share one pass, unlike in the published code. Negatives are chosen by what they show, so statistics of
    their own would let batch norms tell them apart without a look at any slice: the loss falls to 0, and nothing is
    learned (docs/reference/methods.md).
    """

    def __init__(self, network: ProjectionNet, tau: float) -> None:
        super().__init__(network, views=1)
        self.tau = tau

    def losses(
        self, outputs: Tensor, metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """PolyCL's triplet loss."""
        pairs = triplet_pairs(len(outputs) // 3, outputs.device)
        return {"loss": contrastive_loss(outputs, *pairs, self.tau)}


class InBatchLearner(Learner):
    """`contrastive_loss` over all embeddings of the batch, those of all processes.

    Args:
        network: the network to train.
        rule: returns P and D.
        options: for the rule.
        tau: temperature.
        views: number of views of each slice.
        one_by_one: whether each positive is compared with negatives only (`loss.contrastive_loss`).
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
        self, outputs: Tensor, metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss, the share of embeddings that had a positive, and whether none had (1 or 0)."""
        positives, compared = self.rule(metadata.select(all_gather(rows)), self.options)
        anchors = positives.any(dim=1)
        vectors = all_gather(outputs)
        return {
            "loss": contrastive_loss(vectors, positives, compared, self.tau, one_by_one=self.one_by_one),
            "anchors": anchors.float().mean(),
            "empty": (~anchors.any()).float(),
        }


class ClassificationLearner(Learner):
    """Supervised classification, one logit for each organ: the control for methods that use image-level labels."""

    def __init__(self, network: ProjectionNet) -> None:
        super().__init__(network, views=1)

    def losses(
        self, outputs: Tensor, metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, the mean over slices and organs."""
        present = metadata.present[rows]
        return {
            "loss": F.binary_cross_entropy_with_logits(outputs.float(), present),
            "accuracy": ((outputs > 0) == (present > 0)).float().mean(),
        }
