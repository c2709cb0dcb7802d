"""What all models of SAM's kind do alike to decode prompts: in batches, and encoded in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frugalseg.sam.protocol import Candidates, Embedding, Prompts

Decode = Callable[[Embedding, Prompts], tuple[Tensor, Tensor]]
"""Maps (N, …), one a prompt, in float32, and N prompts → logits (N, M, side, side) and scores (N, M)."""


def decode_in_batches(
    decode: Decode, embedding: Embedding, prompts: Prompts, shape: tuple[int, int], at_once: int, device: torch.device
) -> Candidates:
    """The masks of all prompts, `at_once` at a time, so that memory has a bound.

    Args:
        decode: what the model says.
        embedding: of the pictures, on any device.
        prompts: N of them, on any device.
        shape: M masks a prompt, and their side.
        at_once: prompts.
        device: where to compute.

    Raises:
        ValueError: `prompts` hold neither boxes nor points nor masks.
    """
    if prompts.points is None and prompts.boxes is None and prompts.masks is None:
        raise ValueError("prompts without boxes, points or masks")
    count, (masks, side) = len(prompts.picture), shape
    logits = torch.empty(count, masks, side, side, device=device)
    scores = torch.empty(count, masks, device=device)
    for start in range(0, count, at_once):
        here = slice(start, start + at_once)
        part = Prompts(**{name: value[here].to(device) for name, value in vars(prompts).items() if value is not None})
        maps = {
            name: whole.index_select(0, part.picture.to(whole.device)).to(device).float()
            for name, whole in embedding.items()
        }
        logits[here], scores[here] = decode(maps, part)
    return Candidates(logits, scores)


def encode_prompts(encoder: Any, prompts: Prompts, side: int) -> tuple[Tensor | None, Tensor]:
    """What the decoder sees of N prompts.

    Args:
        encoder: transformers' prompt encoder.
        prompts: on its device.
        side: of the mask prompts that it takes.

    Returns:
        Tokens (N, 1, T, C) of boxes and points, None where there are neither; and maps (N or 1, C, h, w) of masks.
    """
    points, labels, boxes, masks = prompts.points, prompts.labels, prompts.boxes, prompts.masks
    if boxes is not None:
        # SAM's corners are the middles of the outermost pixels.
        boxes = boxes - torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
    if masks is not None:
        masks = F.interpolate(masks[:, None], (side, side), mode="bilinear", align_corners=False, antialias=True)
    sparse, dense = encoder(
        input_points=None if points is None else points[:, None],
        input_labels=None if labels is None else labels[:, None],
        input_boxes=None if boxes is None else boxes[:, None],
        input_masks=masks,
    )
    return sparse, dense
