"""A promptable model whose answers are known: in each box, the pixels brighter than a threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from frugalseg.promptable.protocol import Candidates, Embedding, Prompts, Recipe

RECIPE = Recipe(size=64, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=False, levels="continuous")


class Bright:
    """Outlines what is brighter than `threshold` in the box.

    `scores`, where given, are those of the three masks when several are asked for; the second of the three is then
    the bright one, the others are the box's left and right half. With `most`, larger batches are out of memory.
    """

    name = "Bright"
    device = torch.device("cpu")
    recipe = RECIPE

    def __init__(self, threshold=0.5, signature="bright", score=0.9, scores=(0.1, 0.9, 0.2), most=None):
        self.threshold, self.signature, self.score, self.scores, self.most = threshold, signature, score, scores, most
        self.encoded: list[int] = []
        self.decoded: list[int] = []
        self.boxes: list[tuple[float, ...]] = []
        self.pictures: list[Tensor] = []

    def encode(self, pixels: Tensor) -> Embedding:
        self._require_room(len(pixels))
        self.encoded.append(len(pixels))
        return {"image": pixels[:, :1].contiguous()}

    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        assert prompts.boxes is not None
        self._require_room(len(prompts.boxes))
        self.decoded.append(len(prompts.boxes))
        self.boxes += [tuple(box.tolist()) for box in prompts.boxes]
        grid = torch.arange(RECIPE.size) + 0.5
        x0, y0, x1, y1 = (side[:, None, None] for side in prompts.boxes.unbind(1))
        inside = (grid >= x0) & (grid < x1) & (grid[:, None] >= y0) & (grid[:, None] < y1)
        picture = embedding["image"][prompts.image_index, 0]
        bright = inside & (picture > self.threshold)
        if not several:
            return Candidates(_logits(bright)[:, None], torch.full((len(bright), 1), self.score))
        left = inside & (grid < (x0 + x1) / 2)
        masks = torch.stack([left, bright, inside & ~left], dim=1)
        return Candidates(_logits(masks), torch.tensor([self.scores]).repeat(len(bright), 1))

    def _require_room(self, count: int) -> None:
        if self.most is not None and count > self.most:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {count} do not fit")


def _logits(mask: Tensor) -> Tensor:
    return torch.where(mask, 6.0, -6.0)
