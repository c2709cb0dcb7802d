"""Learning-rate schedules, all stepped once an iteration."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler


def warm_restarts(optimizer: Optimizer, period: int) -> LRScheduler:
    """Cosine from the learning rate to 0 over `period` steps, again and again (SGDR, arXiv 1608.03983)."""
    return CosineAnnealingWarmRestarts(optimizer, T_0=period)


def cosine(optimizer: Optimizer, total_steps: int, lowest: float = 0.0) -> LRScheduler:
    """One cosine from the learning rate to `lowest` over the whole run (SGDR without restarts)."""
    return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=lowest)
