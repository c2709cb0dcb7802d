"""The interface of promptable models: pixels → embedding, embedding and prompts → masks and scores.

Which model it is, and how its authors scale their pictures, stays behind this: a slice goes through the model's own
`Recipe` (see `promptable.framing`), and prompts and masks are in the pixels of the framed picture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Embedding = dict[str, Tensor]
"""Named feature maps, each (B, …) with one entry a picture: what a cache keeps."""


@dataclass(frozen=True)
class Recipe:
    """How a model wants its pictures, kept with every result.

    Attributes:
        size: side of the square input in pixels.
        mean, std: of each of the three channels, in the units of `scale`.
        scale: largest grey value after windowing; 255 for models trained on 8-bit pictures, 1 for others.
        stretch: whether each picture is stretched to the full range of grey values (MedSAM) or keeps its window (SAM).
        levels: grey values are rounded to 8 bits first, as the model's training pictures were.
        fit: the slice fills the square by its longer side, the rest zeros (SAM, LiteMedSAM), or is stretched to the
            whole square (MedSAM, SAM 2).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    stretch: bool
    levels: Literal["8 bit", "continuous"] = "8 bit"
    fit: Literal["longer side", "square"] = "longer side"


@dataclass(frozen=True)
class Prompts:
    """N prompts, in pixels of the framed picture; at least one kind is given.

    Attributes:
        picture: (N,) int64, which picture of the embedding each prompt is about.
        boxes: (N, 4) float32 x0, y0, x1, y1, the maxima exclusive; or None.
        points: (N, P, 2) float32 x, y; or None.
        labels: (N, P) int64 of the points: 1 object, 0 background, −1 none.
        masks: (N, S, S) float32, logits of an earlier mask on the framed picture, any side; or None.
    """

    picture: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Candidates:
    """The masks a model offers for each prompt.

    Attributes:
        logits: (N, M, L, L) float32 over the framed picture, at the model's own resolution; above 0 is object.
        scores: (N, M) float32, the IoU the model expects of each.
    """

    logits: Tensor
    scores: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """Of each prompt the mask with the highest score: logits (N, L, L), scores (N,)."""
        scores, choice = self.scores.max(dim=1)
        return self.logits[torch.arange(len(choice), device=choice.device), choice], scores


def make_signature(*facts: object) -> str:
    """A signature of what made something: 16 hex digits that change with any of the facts, by their `repr`."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class Promptable(Protocol):
    """A model that segments the object that a prompt points at.

    Attributes:
        name: of the model, for people.
        signature: changes with architecture, weights and recipe; embeddings of two signatures are never mixed.
        recipe: how it wants its pictures.
        device: where it computes.
    """

    name: str
    signature: str
    recipe: Recipe
    device: torch.device

    def encode(self, pixels: Tensor) -> Embedding:
        """Embeddings of framed pictures (B, 3, size, size), normalised as the recipe says."""

    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        """All prompts in one batch; `several` asks for the model's three masks a prompt instead of one."""
