"""How views go through a network: together, or one by one where they must not share the statistics of batch norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def group_into_passes(module: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """What is to go through the module in one pass each: all views stacked, or where it has batch norms, every view.

    So a batch norm in training takes its statistics from one view, as the code of PolyCL, PCL and SuperCL has it: what
    the other views show changes nothing. All other layers see each slice alone, and one pass gives the same, sooner.

    Args:
        module: a network, or a part of one.
        views: each (N, C, H, W); the same slices, or the anchors, positives and negatives of triplets.
    """
    return list(views) if has_batch_norm(module) else [torch.cat(list(views))]


def has_batch_norm(module: nn.Module) -> bool:
    """Whether any layer normalises over the slices of a batch."""
    return any(isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) for layer in module.modules())
