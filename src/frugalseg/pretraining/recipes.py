"""How a method is trained where the person says nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import Parameter

from frugalseg.engine.schedules import cosine, warm_restarts

Changes = Literal["none", "light", "strong", "published"]


@dataclass(frozen=True)
class Recipe:
    """A method's defaults.

    Attributes:
        lr: highest learning rate of the schedule.
        weight_decay: added to the gradient.
        schedule: warm_restarts restarts every --restart-epochs epochs; cosine falls to 0 once over the run.
        tau: temperature; of no meaning to methods that compare nothing.
        augment: random changes of the slices, see `pretraining.views`.
        optimizer: sgd has a momentum of 0.9.
    """

    lr: float
    weight_decay: float
    schedule: Literal["warm_restarts", "cosine"]
    tau: float
    augment: Changes
    optimizer: Literal["adam", "sgd"] = "adam"


def make_optimizer(recipe: Recipe, parameters: Iterable[Parameter], lr: float | None) -> torch.optim.Optimizer:
    """The recipe's optimiser of the parameters that learn, with `lr` instead of its own where given."""
    learning = [p for p in parameters if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(learning, lr=lr or recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.Adam(learning, lr=lr or recipe.lr, weight_decay=recipe.weight_decay)


def make_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int, restart_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's schedule, to be stepped once an iteration."""
    if recipe.schedule == "warm_restarts":
        return warm_restarts(optimizer, restart_steps)
    return cosine(optimizer, total_steps)
