"""Losses over logits in which the background stands at 0.

A network gives one logit a class, (B, C, H, W). The probabilities are the softmax over (0, logit 1, …, logit C):
for one class exactly the sigmoid, for several a distribution without overlap. So one class and many are one case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["dice_per_slice", "dice_over_batch+ce"]
Loss = Callable[[Tensor, Tensor], dict[str, Tensor]]


def with_background(logits: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C + 1, H, W) with the background's 0 in front, in float32."""
    return F.pad(logits.float(), (0, 0, 0, 0, 1, 0))


def probabilities(logits: Tensor) -> Tensor:
    """(B, C, H, W) logits → probabilities of the C classes, in [0, 1]; the background has the rest."""
    return with_background(logits).softmax(dim=1)[:, 1:]


def make_loss(name: LossName) -> Loss:
    """The loss called `name`: (logits (B, C, H, W), classes (B, H, W)) → scalars, "loss" their sum.

    dice_per_slice: Dice of each slice and class with 1 added to numerator and denominator, averaged; as PolyCL
    was published (LossFunctions.py). An empty slice then pulls at every pixel.
    dice_over_batch+ce: Dice of each class over all slices of the batch together, so empty slices do not count on
    their own, plus cross-entropy (for one class, binary cross-entropy).
    """
    from monai.losses import DiceLoss  # takes seconds to import

    per_slice = name == "dice_per_slice"
    smooth = 1.0 if per_slice else 1e-5
    dice = DiceLoss(batch=not per_slice, smooth_nr=smooth, smooth_dr=smooth)

    def loss(logits: Tensor, classes: Tensor) -> dict[str, Tensor]:
        one_hot = F.one_hot(classes.long(), logits.shape[1] + 1).movedim(-1, 1)[:, 1:]
        parts = {"dice_loss": dice(probabilities(logits), one_hot)}
        if not per_slice:
            parts["ce_loss"] = F.cross_entropy(with_background(logits), classes.long())
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    return loss
