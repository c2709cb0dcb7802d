"""The interface of promptable models: pixels → embedding, embedding and prompts → masks and scores.

The interface hides which model it is and how its images are scaled: slices are preprocessed by the model's `Recipe`
(see `promptable.framing`), and prompts and masks are in pixels of the framed image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Embedding = dict[str, Tensor]
"""Named feature maps, each (B, …) with one entry per image; the cache stores them."""


@dataclass(frozen=True)
class Recipe:
    """The preprocessing of a model's input images; recorded with every result.

    Attributes:
        size: side of the square input in pixels.
        mean, std: of each of the three channels, in the units of `scale`.
        scale: largest grey value after windowing; 255 for models trained on 8-bit images, 1 for others.
        stretch: whether each image is stretched to the full range of grey values (MedSAM) or keeps its window (SAM).
        levels: "8 bit" rounds grey values to 8 bits first, like the model's training images.
        fit: "longer side" scales the slice until its longer side fills the square, padded with zeros (SAM,
            LiteMedSAM); "square" stretches it to the square (MedSAM, SAM 2).
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
    """N prompts, in pixels of the framed image, of at least one kind.

    Attributes:
        image_index: (N,) int64, index of each prompt's image in the embedding.
        boxes: (N, 4) float32 x0, y0, x1, y1, the maxima exclusive; or None.
        points: (N, P, 2) float32 x, y; or None.
        labels: (N, P) int64 of the points: 1 object, 0 background, −1 none.
        masks: (N, S, S) float32, logits of an earlier mask on the framed image, any side; or None.
    """

    image_index: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Candidates:
    """The candidate masks of a model for each prompt.

    Attributes:
        logits: (N, M, L, L) float32 over the framed image, at the model's own resolution; object above 0.
        scores: (N, M) float32, predicted IoU of each mask.
    """

    logits: Tensor
    scores: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """The mask with the highest score for each prompt: logits (N, L, L), scores (N,)."""
        scores, choice = self.scores.max(dim=1)
        return self.logits[torch.arange(len(choice), device=choice.device), choice], scores


FLOAT32 = "32-true"
"""Float32 in the terms of `engine.device.resolve_precision`, for `ImageEncoder.weights_signature`."""


def make_signature(*facts: object) -> str:
    """A hash of the `repr` of facts that determine a result, as 16 hex digits."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class ImageEncoder(Protocol):
    """A model that computes embeddings of images.

    Attributes:
        name: shown to users.
        signature: changes with architecture, weights, recipe and precision; embeddings of different signatures are
            never mixed.
        weights_signature: the same without the precision.
        recipe: its preprocessing.
        device: where it computes.
    """

    name: str
    signature: str
    weights_signature: str
    recipe: Recipe
    device: torch.device

    def encode(self, pixels: Tensor) -> Embedding:
        """Embeddings of framed images (B, 3, size, size), normalised by the recipe; "image" is a map (B, C, h, w)."""


class Promptable(Protocol):
    """A model that segments the prompted object.

    Attributes:
        name: shown to users.
        signature: changes with architecture, weights and recipe; embeddings of different signatures are never mixed.
        recipe: its preprocessing.
        device: where it computes.
    """

    name: str
    signature: str
    recipe: Recipe
    device: torch.device

    def encode(self, pixels: Tensor) -> Embedding:
        """Embeddings of framed images (B, 3, size, size), normalised by the recipe."""

    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        """The masks of all prompts in one batch; with `several`, the model's three masks per prompt instead of one."""
