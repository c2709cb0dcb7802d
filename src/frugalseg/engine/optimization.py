"""Optimisers and learning-rate schedules of every training. All schedules are stepped once an iteration.

PyTorch is imported by what computes with it: `study status` only reads how long a training is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["one_cycle", "warm_restarts", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How weights are updated.

    Attributes:
        lr: highest learning rate of the schedule.
        weight_decay: added to the gradient by adam and sgd, subtracted from the weights by adamw.
        schedule: one_cycle rises over the first tenth of the run and falls to 0 over the rest; warm_restarts falls to 0
            along a cosine, again and again; cosine falls once over the run.
        optimizer: sgd has a momentum of 0.9.
    """

    lr: float
    weight_decay: float
    schedule: ScheduleName
    optimizer: OptimizerName = "adam"

    def make_optimizer(
        self, parameters: Iterable[Parameter] | list[dict[str, Any]], lr: float | None = None, fused: bool | None = None
    ) -> Optimizer:
        """The optimiser of these parameters.

        Args:
            parameters: those to train, or PyTorch's groups of them, each with a learning rate of its own where it
                names one.
            lr: replaces `Optimization.lr`.
            fused: whether one kernel updates all weights; None for PyTorch's choice.
        """
        from torch.optim import SGD, Adam, AdamW

        optimizers: dict[OptimizerName, Callable[..., Optimizer]] = {
            "adam": Adam,
            "adamw": AdamW,
            "sgd": partial(SGD, momentum=0.9),
        }
        make = optimizers[self.optimizer]
        return make(parameters, lr=lr or self.lr, weight_decay=self.weight_decay, fused=fused)

    def make_schedule(
        self, optimizer: Optimizer, total_steps: int, restart_steps: int = 1, lowest: float = 0.0
    ) -> LRScheduler:
        """The learning-rate schedule of a run.

        Args:
            optimizer: whose learning rates are the highest.
            total_steps: length of the run.
            restart_steps: steps of one cosine of warm_restarts.
            lowest: learning rate at the end of cosine.
        """
        from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

        schedules: dict[ScheduleName, Callable[[], LRScheduler]] = {
            "one_cycle": lambda: one_cycle(optimizer, total_steps),
            "warm_restarts": lambda: CosineAnnealingWarmRestarts(optimizer, T_0=restart_steps),  # arXiv 1608.03983
            "cosine": lambda: CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=lowest),
        }
        return schedules[self.schedule]()


def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """From a low rate to the optimiser's own in the first tenth of the run, and down to 0 over the rest.

    The loop steps the schedule after the last iteration too, which would be beyond its end; so it is one step longer
    than the run. A cycle of fewer than twenty steps would have no step to rise in.
    """
    from torch.optim.lr_scheduler import OneCycleLR

    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, highest, total_steps=max(total_steps, 20) + 1, pct_start=0.1)
