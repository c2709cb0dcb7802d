"""Boxes on slices in, masks on slices out: one way for every promptable model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from frugalseg.sam.boxes import Box
from frugalseg.sam.framing import Frame
from frugalseg.sam.protocol import Embedding, Promptable, Prompts


@torch.inference_mode()
def masks_of_boxes(
    model: Promptable,
    frame: Frame,
    embedding: Embedding,
    picture: Sequence[int],
    boxes: Sequence[Box],
    several: bool = False,
) -> tuple[Tensor, Tensor]:
    """The mask that a model gives each of N boxes, on the slices' own grid.

    Args:
        model, frame, embedding: of the slices.
        picture: for each box, which picture of the embedding it is on.
        boxes: in pixels of the slice.
        several: the model offers three masks a box, of which the one with the highest score is taken, instead of one.

    Returns:
        Logits (N, H, W) float32 and the IoU that the model expects of each, (N,); on the model's device.
    """
    prompts = Prompts(
        picture=torch.tensor(list(picture), dtype=torch.int64, device=model.device),
        boxes=frame.boxes_in(torch.tensor([list(box) for box in boxes], dtype=torch.float32, device=model.device)),
    )
    logits, scores = model.decode(embedding, prompts, several).best()
    return frame.masks_out(logits), scores
