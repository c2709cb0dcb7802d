"""Box and mask prompts from the classifier's maps and, for training, from masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

MAX_SHIFT = 20 / 1024
"""Largest expansion of each side of a mask's box in training, relative to the image's side: MedSAM's is 20 of 1024
pixels."""

LOGIT_PER_CAM = 10.0
"""SAM's mask prompts are logits: a map in [0, 1] minus its threshold is multiplied by this."""


def stretch_to_unit_range(cams: Tensor, least: float = 1e-20) -> Tensor:
    """Rescale each map (B, K, h, w) from its minimum and maximum to 0 and 1; a constant map becomes 0.

    A range below `least` is replaced by `least`, which bounds the gradients.
    """
    low, high = cams.amin((2, 3), keepdim=True), cams.amax((2, 3), keepdim=True)
    return torch.where(high > low, (cams - low) / (high - low).clamp(min=least), 0.0)


def resize_cams(cams: Tensor, size: int) -> Tensor:
    """Maps (B, K, h, w) resized to the pixels of the slices, (B, K, size, size), bilinear."""
    return F.interpolate(cams, (size, size), mode="bilinear", align_corners=False)


def boxes_of_cams(cams: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The box around the largest component of each map at or above the threshold.

    Components are 8-connected; of equally large ones the first in reading order is taken.

    Args:
        cams: (B, K, S, S) in [0, 1].
        threshold: in (0, 1].

    Returns:
        boxes (B, K, 4) float32 x0, y0, x1, y1 in pixels, the maxima exclusive; where no pixel reaches the threshold,
        the middle half of the slice. And whether any did, (B, K).
    """
    high = (cams >= threshold).cpu().numpy()
    size = cams.shape[-1]
    boxes = np.tile(np.array([size / 4, size / 4, 3 * size / 4, 3 * size / 4], np.float32), (*high.shape[:2], 1))
    found = high.any(axis=(2, 3))
    for picture, organ in zip(*np.nonzero(found), strict=True):
        boxes[picture, organ] = _bounding_box(_largest_component(high[picture, organ]))
    return torch.from_numpy(boxes).to(cams.device), torch.from_numpy(found).to(cams.device)


def boxes_of_masks(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The box around each mask (N, S, S): (N, 4) as in `boxes_of_cams`, 0 where empty; and which are not empty (N,)."""
    arrays = masks.cpu().numpy() > 0
    boxes = np.zeros((len(arrays), 4), np.float32)
    found = arrays.any(axis=(1, 2)).reshape(len(arrays))
    for i in np.flatnonzero(found):
        boxes[i] = _bounding_box(arrays[i])
    return torch.from_numpy(boxes).to(masks.device), torch.from_numpy(found).to(masks.device)


def expand_boxes(boxes: Tensor, size: int, chance: Tensor) -> Tensor:
    """Boxes expanded on all four sides by up to `MAX_SHIFT` of the image's side, and clipped to the image.

    Args:
        boxes: (N, 4) in pixels.
        size: side of the image in pixels.
        chance: (N, 4) in [0, 1), the fraction of the largest expansion for each side.
    """
    outward = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes.device)
    return (boxes + outward * chance * MAX_SHIFT * size).clamp(0, size)


def expand_mask_boxes(masks: Tensor, boxes: Tensor) -> Tensor:
    """The box around each mask (N, S, S), expanded by the mean expansion of training; that of `boxes` (N, 4) where the
    mask is empty."""
    found, there = boxes_of_masks(masks)
    wide = expand_boxes(found, masks.shape[-1], torch.full_like(found, 0.5))
    return torch.where(there[:, None], wide.to(boxes.device), boxes)


def paired_box_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU of box i of `one` with box i of `other`, (N, 4): (N,) in [0, 1]; 0 where both are empty."""
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
