"""Learning-rate schedules, stepped after every optimiser step."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, OneCycleLR


def warm_restarts(optimizer: Optimizer, period: int) -> LRScheduler:
    """Cosine from the learning rate to 0 over `period` steps, repeated (SGDR, arXiv 1608.03983)."""
    return CosineAnnealingWarmRestarts(optimizer, T_0=period)


def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """One cycle: up to the optimiser's learning rate in the first tenth of the run, then down to 0.

    The schedule is one step longer than the run, since the loop steps it once more after its last step. It has at least
    twenty steps; shorter ones would not rise.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, highest, total_steps=max(total_steps, 20) + 1, pct_start=0.1)


def cosine(optimizer: Optimizer, total_steps: int, lowest: float = 0.0) -> LRScheduler:
    """One cosine from the learning rate to `lowest` over the whole run (SGDR without restarts)."""
    return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=lowest)
