"""Learning-rate schedules, all stepped once an iteration."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, OneCycleLR


def warm_restarts(optimizer: Optimizer, period: int) -> LRScheduler:
    """Cosine from the learning rate to 0 over `period` steps, again and again (SGDR, arXiv 1608.03983)."""
    return CosineAnnealingWarmRestarts(optimizer, T_0=period)


def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """From a low rate to the optimiser's own in the first tenth of the run, and down to 0 over the rest.

    One step longer than the run: the schedule refuses the step after its last, which the loop takes. And a cycle of
    fewer than twenty steps would have no room to rise.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, highest, total_steps=max(total_steps, 20) + 1, pct_start=0.1)


def cosine(optimizer: Optimizer, total_steps: int, lowest: float = 0.0) -> LRScheduler:
    """One cosine from the learning rate to `lowest` over the whole run (SGDR without restarts)."""
    return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=lowest)
