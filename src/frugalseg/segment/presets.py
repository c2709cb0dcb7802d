"""The named ways to fine-tune. With few labels the recipe matters more than anything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import Parameter

from frugalseg.options import Norm
from frugalseg.segment.losses import LossName


@dataclass(frozen=True)
class Recipe:
    """Everything about a fine-tuning that is not data, network or length.

    Attributes:
        norm: normalisation layers.
        dropout: share of activations dropped after each block of the network.
        first_logit: what an untrained network says of every class, or None for what its layers give.
        loss: see `segment.losses`.
        augment: whether slices are changed at random.
        optimizer, lr, weight_decay: lr is the highest of the schedule.
        schedule: one_cycle rises over the first tenth of the run and falls over the rest; warm_restarts falls
            along a cosine and starts anew every `restart_epochs`. Both are stepped once an iteration.
        clip: largest gradient norm, or None.
        epochs, steps: length where the person gives none; one of them.
    """

    norm: Norm
    dropout: float
    first_logit: float | None
    loss: LossName
    augment: bool
    optimizer: Literal["adam", "adamw"]
    lr: float
    weight_decay: float
    schedule: Literal["one_cycle", "warm_restarts"]
    clip: float | None
    epochs: int | None = None
    steps: int | None = None
    restart_epochs: int = 10


RECIPES = {
    "robust": Recipe(
        norm="instance_affine",
        dropout=0.0,
        first_logit=-3.0,
        loss="dice_over_batch+ce",
        augment=True,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        clip=1.0,
        steps=1000,
    ),
    # arXiv 2505.19208, section 4.2, and its code; the restarts step inside an epoch, as the paper says.
    "paper": Recipe(
        norm="instance",
        dropout=0.25,
        first_logit=None,
        loss="dice_per_slice",
        augment=False,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        schedule="warm_restarts",
        clip=None,
        epochs=100,
    ),
}


def make_optimizer(recipe: Recipe, parameters: Iterable[Parameter], lr: float | None) -> torch.optim.Optimizer:
    """The recipe's optimiser, with `lr` instead of its own where given."""
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimizer](parameters, lr=lr or recipe.lr, weight_decay=recipe.weight_decay)


def make_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's schedule, to be stepped once an iteration."""
    if recipe.schedule == "one_cycle":
        highest = optimizer.param_groups[0]["lr"]
        # One step more: the schedule refuses the step after its last, which the loop takes. And a cycle of fewer
        # than twenty steps would have no room to rise.
        length = max(total_steps, 20) + 1
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=length, pct_start=0.1)
    return warm_restarts(optimizer, recipe.restart_epochs * steps_per_epoch)


def warm_restarts(optimizer: torch.optim.Optimizer, period: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Cosine from the learning rate to 0 over `period` steps, again and again (SGDR, arXiv 1608.03983)."""
    return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=period)
