"""Boxes on slices in, masks on slices out: one way for every promptable model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from frugalseg.sam.boxes import Box
from frugalseg.sam.framing import Frame
from frugalseg.sam.protocol import Embedding, Promptable, Prompts


@torch.inference_mode()
def candidates(
    model: Promptable,
    frame: Frame,
    embedding: Embedding,
    picture: Sequence[int],
    boxes: Sequence[Box],
    several: bool = False,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All masks that a model offers for N boxes, on the slices' own grid.

    Args:
        model, frame, embedding: of the slices.
        picture: for each box, which picture of the embedding it is on.
        boxes: in pixels of the slice.
        several: three masks a box instead of one.
        masks: (N, H, W) logits of earlier masks on the slice, as a further prompt; or None.

    Returns:
        Logits (N, M, H, W) float32 and the IoU that the model expects of each, (N, M); on the model's device.
    """
    prompts = Prompts(
        picture=torch.tensor(list(picture), dtype=torch.int64, device=model.device),
        boxes=frame.boxes_in(torch.tensor([list(box) for box in boxes], dtype=torch.float32, device=model.device)),
        masks=None if masks is None else frame.masks_in(masks.to(model.device), outside=-10.0),
    )
    offered = model.decode(embedding, prompts, several)
    count, kinds = offered.scores.shape
    logits = frame.masks_out(offered.logits.flatten(0, 1))
    return logits.reshape(count, kinds, *logits.shape[1:]), offered.scores


def best(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of each box the mask with the highest score: (N, H, W), (N,)."""
    highest, choice = scores.max(dim=1)
    return logits[torch.arange(len(choice), device=choice.device), choice], highest
