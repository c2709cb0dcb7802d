"""Prompts from what the classifier saw, and, for training, from masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

MAX_SHIFT = 20 / 1024
"""Furthest that a side of a mask's box is moved outward in training, in parts of the picture's side: MedSAM moves by
20 of 1024 pixels."""

LOGIT_PER_CAM = 10.0
"""SAM reads mask prompts as logits; a map of 0 to 1 around its threshold becomes them by this factor."""


def stretch_to_unit_range(cams: Tensor, least: float = 1e-20) -> Tensor:
    """Each map from its least to its greatest value as 0 to 1; a constant one as 0. (B, K, h, w) → the same.

    One whose range is below `least` is stretched as if it were that wide: gradients through it stay bounded.
    """
    low, high = cams.amin((2, 3), keepdim=True), cams.amax((2, 3), keepdim=True)
    return torch.where(high > low, (cams - low) / (high - low).clamp(min=least), 0.0)


def resize_cams(cams: Tensor, size: int) -> Tensor:
    """Maps (B, K, h, w) on the pixels of the slices, (B, K, size, size), bilinear."""
    return F.interpolate(cams, (size, size), mode="bilinear", align_corners=False)


def boxes_of_cams(cams: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The box around the largest part of each map that is at the threshold or above.

    Pixels touch by a side or a corner; of equally large parts the first in reading order counts.

    Args:
        cams: (B, K, S, S) in [0, 1].
        threshold: in (0, 1].

    Returns:
        boxes (B, K, 4) float32 x0, y0, x1, y1 in pixels, the maxima exclusive; where nothing reaches the threshold,
        the middle half of the slice. And whether anything did, (B, K).
    """
    high = (cams >= threshold).cpu().numpy()
    size = cams.shape[-1]
    boxes = np.tile(np.array([size / 4, size / 4, 3 * size / 4, 3 * size / 4], np.float32), (*high.shape[:2], 1))
    found = high.any(axis=(2, 3))
    for picture, organ in zip(*np.nonzero(found), strict=True):
        boxes[picture, organ] = _bounding_box(_largest_component(high[picture, organ]))
    return torch.from_numpy(boxes).to(cams.device), torch.from_numpy(found).to(cams.device)


def boxes_of_masks(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The box around each mask (N, S, S): (N, 4) as in `boxes_of_cams`, 0 where it is empty, and which are not."""
    arrays = masks.cpu().numpy() > 0
    boxes = np.zeros((len(arrays), 4), np.float32)
    found = arrays.any(axis=(1, 2)).reshape(len(arrays))
    for i in np.flatnonzero(found):
        boxes[i] = _bounding_box(arrays[i])
    return torch.from_numpy(boxes).to(masks.device), torch.from_numpy(found).to(masks.device)


def expand_boxes(boxes: Tensor, size: int, chance: Tensor) -> Tensor:
    """Boxes whose four sides are moved outward, by up to `MAX_SHIFT` of the picture's side, and cut off at its border.

    Args:
        boxes: (N, 4) in pixels.
        size: side of the picture in pixels.
        chance: (N, 4) in [0, 1), how far of the way each side goes.
    """
    outward = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes.device)
    return (boxes + outward * chance * MAX_SHIFT * size).clamp(0, size)


def expand_mask_boxes(masks: Tensor, boxes: Tensor) -> Tensor:
    """The box around each mask (N, S, S), moved outward by as much as in training on average; where there is none, the
    one of `boxes` (N, 4)."""
    found, there = boxes_of_masks(masks)
    wide = expand_boxes(found, masks.shape[-1], torch.full_like(found, 0.5))
    return torch.where(there[:, None], wide.to(boxes.device), boxes)


def paired_box_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU of boxes (N, 4), each with its fellow: (N,) in [0, 1]; 0 where both are empty."""
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    both = (high - low).clamp(min=0).prod(dim=1)
    either = sum((box[:, 2:] - box[:, :2]).prod(dim=1) for box in (one, other)) - both
    return both / either.clamp(min=1e-6)


def to_mask_prompts(cams: Tensor, threshold: float) -> Tensor:
    """Maps in [0, 1] as SAM's mask prompts: above 0 where they are above the threshold."""
    return (cams - threshold) * LOGIT_PER_CAM


def _largest_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 1:
        return mask
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    largest: npt.NDArray[np.bool_] = labelled == sizes.argmax()
    return largest


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
