"""Passes of views through a network: together, or one by one where they must not share batch norm statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frugalseg.engine.processes import has_batch_norm


def group_into_passes(module: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of the passes through a module: one of all views, or where it has batch norms, one for each view.

    In training a batch norm then takes its statistics from a single view, as in the code of PCL and SuperCL.
    All other layers treat each slice on its own, so that one pass gives the same result in less time.

    Args:
        module: a network, or a part of one.
        views: each (N, C, H, W), views of the same slices. Triplets are other slices, and share a pass.
    """
    return list(views) if has_batch_norm(module) else [torch.cat(list(views))]
