"""Mean teacher: the network is to agree with the moving average of its weights on every slice, labelled or not
(arXiv 1703.01780)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from frugalseg.engine.processes import sum_over_processes

RAMP_SHARE = 0.4
"""Share of the run over which the loss term reaches its full weight."""


def consistency_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over classes of Σ (p − q)² / (Σ p² + Σ q²), the sums over all pixels of the batch, that of all processes.

    The squared difference of arXiv 1703.01780, eq. 1, relative to the organs' size: a mean over pixels would be smaller
    for smaller organs and for fewer slices that show them. It equals 1 − 2 Σ p q / (Σ p² + Σ q²), the soft
    Dice loss of V-Net (arXiv 1606.04797, section 3) with the teacher as reference.

    Args:
        student, teacher: probabilities (B, C, H, W); the teacher gets no gradient.
    """
    teacher = teacher.detach()
    over = (0, 2, 3)
    difference = (student - teacher).square().sum(over)
    size = student.square().sum(over) + teacher.square().sum(over)
    difference, size = sum_over_processes(torch.stack([difference, size]))
    ratio: Tensor = difference / (size + 1e-5)
    return ratio.mean()


def sigmoid_ramp_up(step: int, steps: int) -> float:
    """exp(−5 (1 − t)²), t rising from 0 to 1 over the first `RAMP_SHARE` of the run (arXiv 1703.01780, section B.1): at
    first the teacher is untrained."""
    t = min(1.0, step / max(1.0, RAMP_SHARE * steps))
    return math.exp(-5 * (1 - t) ** 2)
