"""Losses that use masks: of the SAM branch, and of the classifier's map."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.sam_mix.model import select_best

SEGMENTATION_WEIGHT = 0.5
"""Weight of the segmentation loss relative to the classification loss (as in the code of its successor, ADA-SAM)."""
SCORE_WEIGHT = 0.05
"""Weight of the score error in the segmentation loss."""


def mask_losses(
    logits: Tensor, scores: Tensor, targets: Tensor, kind: Literal["dice+ce", "dice"] = "dice+ce"
) -> dict[str, Tensor]:
    """Dice and cross-entropy of the mask with the highest score, and the error of all scores against the true IoU.

    Args:
        logits: (N, M, S, S), N above 0.
        scores: (N, M).
        targets: (N, S, S), 1 on the organ.
        kind: whether the cross-entropy is included.

    Returns:
        "dice_loss", 1 − (2 Σ p t + 1) / (Σ p + Σ t + 1) of each mask, averaged; "ce_loss"; "score_loss", the mean
        squared error; and "loss", Dice + CE + `SCORE_WEIGHT` · score_loss, or the same without CE.
    """
    logits, scores, targets = logits.float(), scores.float(), targets.float()
    final, _ = select_best(logits, scores)
    p, over = final.sigmoid(), (1, 2)
    dice = 1 - (2 * (p * targets).sum(over) + 1) / (p.sum(over) + targets.sum(over) + 1)
    parts = {
        "dice_loss": dice.mean(),
        "ce_loss": F.binary_cross_entropy_with_logits(final, targets),
        "score_loss": (scores - true_iou(logits, targets)).square().mean(),
    }
    loss = parts["dice_loss"] + SCORE_WEIGHT * parts["score_loss"]
    return {**parts, "loss": loss + parts["ce_loss"] if kind == "dice+ce" else loss}


def map_loss(cams: Tensor, labels: Tensor) -> Tensor:
    """Dice loss of the classifier's maps against the masks: 1 − 2 Σ c t / (Σ c² + Σ t), averaged over the organs shown.

    It only constrains a map's shape: maps are rescaled to 0…1, so the loss does not affect their height.

    Args:
        cams: (L, K, S, S) in [0, 1].
        labels: (L, S, S) classes, organ k as k + 1; organs that a slice does not show are not counted.

    Returns:
        a scalar in 0…1; 0 where no slice shows anything.
    """
    targets = torch.stack([labels == organ + 1 for organ in range(cams.shape[1])], dim=1).float()
    over, there = (2, 3), targets.flatten(2).any(dim=2)
    dice = 2 * (cams * targets).sum(over) / (cams.square().sum(over) + targets.sum(over)).clamp(min=1)
    return ((1 - dice) * there).sum() / there.sum().clamp(min=1)


@torch.no_grad()
def true_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of masks (N, M, S, S), logits above 0, with their target (N, S, S): (N, M); 0 where both are empty."""
    masks, there = logits > 0, (targets > 0.5)[:, None]
    both = (masks & there).sum((2, 3))
    either = (masks | there).sum((2, 3))
    return both / either.clamp(min=1)
