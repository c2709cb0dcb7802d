"""Losses over logits in which the background's logit is 0.

A network gives one logit for each class, (B, C, H, W). The probabilities are the softmax over (0, logit 1, …, logit C):
for one class exactly the sigmoid, for several a distribution over exclusive classes. Binary and multi-class
segmentation are thus the same case.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.engine.processes import share_of_mean, sum_over_processes

LossName = Literal["dice_per_slice", "dice_over_batch+ce", "log_dice_over_batch+ce", "ce"]

DICE_FLOOR = 0.1
"""Added to a Dice before its logarithm, whose slope at 0 is then 11 times that of the Dice instead of infinite."""


class Loss(Protocol):
    """See `make_loss`."""

    def __call__(
        self, logits: Tensor, classes: Tensor, weights: Tensor | None = None, unknown: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The parts of the loss, and their sum."""


def add_background(logits: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C + 1, H, W) with the background's 0 in front, in float32."""
    return F.pad(logits.float(), (0, 0, 0, 0, 1, 0))


def probabilities(logits: Tensor) -> Tensor:
    """(B, C, H, W) logits → probabilities of the C classes, in [0, 1]; the remainder to 1 is the background's."""
    return add_background(logits).softmax(dim=1)[:, 1:]


def make_loss(name: LossName) -> Loss:
    """The loss called `name`: (logits (B, C, H, W), classes (B, H, W), weights (B, H, W) or None) → scalars, "loss"
    their sum.

    dice_per_slice: Dice of each slice and class with 1 added to numerator and denominator, averaged; as PolyCL
    was published (LossFunctions.py). An empty slice then has a gradient at every pixel.
    dice_over_batch+ce: Dice of each class over all slices of the batch together, so empty slices have no term of
    their own, plus cross-entropy (for one class, binary cross-entropy). No preset has it now: it is what the next is
    compared with.
    log_dice_over_batch+ce: the same with minus the logarithm of the Dice, over the classes that the batch shows. The
    gradient of 1 − Dice vanishes for a small organ that is nowhere predicted yet, and its few pixels hardly count in
    the cross-entropy; that of the logarithm does not vanish (compare arXiv 1809.00076).
    ce: cross-entropy alone, as SuperCL was published.
    A pixel of weight w in [0, 1] counts as w pixels in every sum; without weights all count as one. Of the classes that
    are `unknown` (B, C) in a slice there is no Dice term there, and its background may be any of them: cross-entropy
    takes the probability of them all (the marginal loss of arXiv 2007.03868).
    """
    per_slice = name == "dice_per_slice"
    smooth = 1.0 if per_slice else 1e-5
    over = (2, 3) if per_slice else (0, 2, 3)

    def loss(
        logits: Tensor, classes: Tensor, weights: Tensor | None = None, unknown: Tensor | None = None
    ) -> dict[str, Tensor]:
        w = torch.ones_like(classes, dtype=torch.float32) if weights is None else weights
        parts: dict[str, Tensor] = {}
        if name != "ce":
            foreground = torch.arange(1, logits.shape[1] + 1, device=classes.device)
            one_hot = classes.unsqueeze(1) == foreground[:, None, None]
            of_class = w.unsqueeze(1) if unknown is None else w.unsqueeze(1) * ~unknown[:, :, None, None]
            dice = soft_dice(probabilities(logits), one_hot, of_class, over, smooth)
            if name == "log_dice_over_batch+ce":
                shown = sum_over_processes((of_class * one_hot).sum(over)) > 0
                parts["dice_loss"] = (shown * -log_dice(dice)).sum() / shown.sum().clamp(min=1)
            else:
                parts["dice_loss"] = _mean_over_processes(1 - dice) if per_slice else (1 - dice).mean()
        if not per_slice:
            log_p = merge_with_background(add_background(logits).log_softmax(dim=1), unknown)
            pixel_ce = F.nll_loss(log_p, classes.long(), reduction="none")
            parts["ce_loss"] = share_of_mean((w * pixel_ce).sum(), w.sum())
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    return loss


def merge_with_background(log_p: Tensor, unknown: Tensor | None) -> Tensor:
    """Log probabilities (B, C + 1, H, W), that of the background replaced by that of it and all `unknown` classes."""
    if unknown is None:
        return log_p
    others = ~F.pad(unknown, (1, 0), value=True)
    background = log_p.masked_fill(others[:, :, None, None], -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_p[:, 1:]], dim=1)


def _mean_over_processes(values: Tensor) -> Tensor:
    """This process's part of the mean over the values of all processes."""
    return share_of_mean(values.sum(), torch.full((), float(values.numel()), device=values.device))


def soft_dice(p: Tensor, target: Tensor, weights: Tensor, over: tuple[int, ...], smooth: float) -> Tensor:
    """(2 Σ w p t + s) / (Σ w p + Σ w t + s), the sums over the axes `over`, which are left out of the result.

    Sums over the batch are those over the slices of all processes.

    MONAI's `DiceLoss` has no pixel weights; without weights the two are equal (tested).

    Args:
        p, target: (B, C, H, W), probabilities and one-hot.
        weights: (B, 1, H, W) or (B, C, H, W).
        over: axes summed over.
        smooth: s.
    """
    both = (weights * p * target).sum(over)
    sizes = (weights * (p + target)).sum(over)
    if 0 in over:
        both, sizes = sum_over_processes(torch.stack([both, sizes]))
    return (2 * both + smooth) / (sizes + smooth)


def log_dice(dice: Tensor) -> Tensor:
    """Logarithm of a Dice in [0, 1] with a floor; 0 at 1, where its slope is 1 as that of the Dice itself."""
    return (1 + DICE_FLOOR) * torch.log((dice + DICE_FLOOR) / (1 + DICE_FLOOR))
