"""Both branches together: slices → organs present, prompts, masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frugalseg.imaging.likeliest import likeliest
from frugalseg.promptable.decoder import ALL
from frugalseg.promptable.framing import Frame
from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.prompts import around, box_overlap, boxes_of_cams, on_slices, stretched

PRESENT = 0.5
"""An organ is sought in a slice from this probability on."""

NEAR = 0.5
"""In training, a box of the classifier is a prompt for a mask from this IoU with the mask's box (moved outward) on. One
that misses the organ could only teach to draw it regardless of the prompt; at first nearly all do."""
FAINT = 1e-3
"""Range of a classifier's map below which masks teach it more gently: a dying map would else get gradients without end.
That of a new classifier is ten times as wide or more."""

PROMPTS_AT_ONCE = 4
"""Decoded together where no gradient is needed: memory stays bounded."""

Maps = Callable[[Tensor], Tensor]
"""Numbers (N,) of some of a batch's slices → the encoder's maps of these."""


class PromptBatch(NamedTuple):
    """Prompts about labelled slices, in training; a tuple, since Fabric looks into those on the way to the model.

    Attributes:
        slices: (N, 1, S, S) in [0, 1].
        organs: (N,) which organ of each is sought.
        boxes: (N, 4) in pixels of the slice, of masks; taken where `taught` says so or the classifier's is not `NEAR`.
        taught: (N,) bool.
        maps: (N, C, h, w) of the frozen encoder; None where the encoder is to be run, with gradients.
    """

    slices: Tensor
    organs: Tensor
    boxes: Tensor
    taught: Tensor
    maps: Tensor | None


@dataclass(frozen=True)
class Detections:
    """What the model makes of B slices; K organs, N of the B·K pairs are sought.

    Attributes:
        present: (B, K) probability that the slice shows the organ.
        cams: (B, K, S, S) in [0, 1].
        slices, organs: (N,) which pairs were sought.
        boxes: (N, 4) in pixels of the slice, that the classifier gave, or the oracle.
        logits: (N, M, S, S) of a prompt's M masks, see `SamBranch.decode`.
        scores: (N, M) the IoU expected of each.
    """

    present: Tensor
    cams: Tensor
    slices: Tensor
    organs: Tensor
    boxes: Tensor
    logits: Tensor
    scores: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """Of each pair the mask with the highest score: logits (N, S, S), scores (N,)."""
        return best_of(self.logits, self.scores)

    def planes(self) -> tuple[Tensor, Tensor]:
        """Probability of each organ at each pixel (B, K, S, S), 0 where it was not sought; and its score (B, K)."""
        logits, scores = self.best()
        planes = torch.zeros_like(self.cams)
        ranks = torch.zeros_like(self.present)
        planes[self.slices, self.organs] = logits.sigmoid()
        ranks[self.slices, self.organs] = scores
        return planes, ranks

    def classes(self) -> Tensor:
        """Classes (B, S, S) uint8, see `claimed`."""
        return claimed(*self.planes())


def best_of(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of each prompt the mask with the highest score: logits (N, S, S), scores (N,), for (N, M, S, S) and (N, M)."""
    scores, choice = scores.max(dim=1)
    return logits[torch.arange(len(choice), device=choice.device), choice], scores


def claimed(planes: Tensor, scores: Tensor) -> Tensor:
    """Each pixel goes to the organ of the highest score among those above one half there; 0 is background.

    Args:
        planes: (B, K, H, W) probabilities.
        scores: (B, K) the IoU expected of each mask; may be below 0.

    Returns:
        (B, H, W) uint8.
    """
    # A sigmoid keeps the order, and every claim above the 0 of no claim.
    claims = (planes > 0.5) * scores.sigmoid()[:, :, None, None]
    return likeliest(torch.zeros_like(claims[:, 0]), claims.transpose(0, 1))


class MixModel(nn.Module):
    """Classifier and SAM branch.

    Args:
        classifier, branch: the two.
        size: side of the slices in pixels.
        threshold: of the classifier's map, from which on it counts as object.
    """

    def __init__(self, classifier: Classifier, branch: SamBranch, size: int, threshold: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.branch = branch
        self.frame = Frame.of((size, size), branch.recipe)
        self.threshold = threshold

    def forward(self, slices: Tensor, pointed: Tensor, asked: PromptBatch) -> dict[str, Tensor]:
        """One step of training.

        Args:
            slices: (B, 1, S, S), whose image-level labels are learned from.
            pointed: (L, 1, S, S), whose masks teach the classifier's map.
            asked: prompts about labelled slices.

        Returns:
            "present": (B, K) logits. "cams": (L, K, S, S) in [0, 1]. "masks": (N, M, S, S) logits and "scores":
            (N, M), for the N prompts.
        """
        last = self.classifier.maps(torch.cat([slices, pointed]))
        present = self.classifier.logits(last[: len(slices)])
        pointing = self._cams(last[len(slices) :], slices.shape[-1], least=FAINT)
        _, cams = self._look(asked.slices)
        boxes, _ = boxes_of_cams(cams, self.threshold)
        pairs = torch.arange(len(asked.organs), device=cams.device), asked.organs
        taught = asked.taught | (box_overlap(boxes[pairs], asked.boxes) < NEAR)
        boxes = torch.where(taught[:, None], asked.boxes, boxes[pairs])
        maps = self.encode(asked.slices) if asked.maps is None else asked.maps
        logits, scores = self.decode(maps, boxes, cams[pairs])
        return {"present": present, "cams": pointing, "masks": logits, "scores": scores}

    def encode(self, slices: Tensor) -> Tensor:
        """The encoder's maps (B, C, h, w) of slices (B, 1, S, S) in [0, 1]."""
        return self.branch.encode(self.frame.pixels(slices[:, 0], self.branch.recipe))

    def decode(self, maps: Tensor, boxes: Tensor, cams: Tensor) -> tuple[Tensor, Tensor]:
        """All masks of each prompt.

        Args:
            maps: (N, C, h, w) of the encoder, one a prompt.
            boxes: (N, 4) in pixels of the slice, the maxima exclusive.
            cams: (N, S, S) in [0, 1].

        Returns:
            logits (N, M, S, S) on the pixels of the slices, and the IoU expected of each (N, M).
        """
        frame = self.frame
        logits, scores = self.branch.decode(maps, frame.boxes_in(boxes), frame.masks_in(cams))
        shown = frame.masks_out(logits.flatten(0, 1)).reshape(*logits.shape[:2], frame.height, frame.width)
        return shown, scores.float()

    @torch.no_grad()
    def find(self, slices: Tensor, maps: Maps | None = None, oracle: tuple[Tensor, Tensor] | None = None) -> Detections:
        """Organs and their masks in slices, prompted by the classifier alone.

        Its box is too coarse to be the last word: what is found in it is drawn again in the box around that.

        Args:
            slices: (B, 1, S, S) in [0, 1].
            maps: the encoder's maps, where they are kept; only those of slices with something to seek are asked for.
            oracle: boxes (B, K, 4) of reference masks, in pixels, and where there are some (B, K): for the figure of
                that name alone. The classifier's own boxes, and its say whether the organ is there, are then not used.
        """
        present, cams = self._look(slices)
        boxes, sought = boxes_of_cams(cams, self.threshold)
        sought &= present >= PRESENT
        if oracle is not None:
            boxes, sought = oracle
        pairs = torch.nonzero(sought)
        picture, organ = pairs[:, 0], pairs[:, 1]
        wanted, which = torch.unique(picture, return_inverse=True)
        if len(wanted) == 0:
            size = slices.shape[-1]
            none = slices.new_zeros(0, len(ALL), size, size), slices.new_zeros(0, len(ALL))
            return Detections(present, cams, picture, organ, boxes[picture, organ], *none)
        encoded = self.encode(slices[wanted]) if maps is None else maps(wanted)
        given = boxes[picture, organ]

        def drawn(boxes: Tensor) -> tuple[Tensor, Tensor]:
            parts = [
                self.decode(encoded[which[part]], boxes[part], cams[picture[part], organ[part]])
                for part in torch.split(torch.arange(len(pairs), device=slices.device), PROMPTS_AT_ONCE)
            ]
            logits, scores = (torch.cat(part).float() for part in zip(*parts, strict=True))
            return logits, scores

        logits, scores = drawn(given)
        if oracle is None:
            logits, scores = drawn(around(best_of(logits, scores)[0] > 0, given))
        return Detections(present, cams, picture, organ, given, logits, scores)

    @torch.no_grad()
    def _look(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """What the classifier sees, as it will at test time: probabilities (B, K), maps in [0, 1] (B, K, S, S)."""
        with evaluating(self.classifier):
            last = self.classifier.maps(slices)
            present = self.classifier.logits(last).float().sigmoid()
        return present, self._cams(last, slices.shape[-1])

    def _cams(self, last: Tensor, size: int, least: float = 1e-20) -> Tensor:
        """Grad-CAM on the classifier's last map (B, C, h, w), in [0, 1] on slices: (B, K, size, size)."""
        return stretched(on_slices(self.classifier.grad_cam(last), size), least)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Let a module work as at test time for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
