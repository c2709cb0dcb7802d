"""Both branches: slices → organs present, prompts, masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frugalseg.imaging.likeliest import likeliest
from frugalseg.promptable.decoder import ALL
from frugalseg.promptable.framing import SquareFrame
from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.prompts import (
    boxes_of_cams,
    expand_mask_boxes,
    paired_box_iou,
    resize_cams,
    stretch_to_unit_range,
)

PRESENCE_THRESHOLD = 0.5
"""An organ is segmented in a slice at and above this probability."""

MIN_BOX_IOU = 0.5
"""In training, a box of the classifier is used as prompt if its IoU with the mask's (expanded) box is at least this.
Training with boxes that miss the organ, as nearly all do at first, would teach the decoder to ignore the prompt."""
MIN_CAM_RANGE = 1e-3
"""Range of a classifier's map below which the gradient of its loss is bounded: a vanishing map would else get unbounded
gradients. The range of an untrained classifier's maps is at least ten times as large."""

PROMPTS_AT_ONCE = 4
"""Prompts decoded together without gradients, to bound memory."""

Maps = Callable[[Tensor], Tensor]
"""Indices (N,) of slices of a batch → the encoder's maps of these."""


class PromptBatch(NamedTuple):
    """Prompts of labelled slices, in training; a tuple, since Fabric converts the tensors of tuples.

    Attributes:
        slices: (N, 1, S, S) in [0, 1].
        organs: (N,) the organ to segment in each.
        boxes: (N, 4) in pixels of the slice, around the organs' masks.
        use_mask_box: (N,) bool, whether this box is the prompt; else the classifier's, if its IoU is `MIN_BOX_IOU`.
        maps: (N, C, h, w) of the frozen encoder; None where the encoder is run, with gradients.
    """

    slices: Tensor
    organs: Tensor
    boxes: Tensor
    use_mask_box: Tensor
    maps: Tensor | None


@dataclass(frozen=True)
class Detections:
    """Outputs of the model for B slices and K organs, of which N pairs are segmented.

    Attributes:
        present: (B, K) probability that the slice shows the organ.
        cams: (B, K, S, S) in [0, 1].
        slices, organs: (N,) the segmented pairs.
        boxes: (N, 4) in pixels of the slice, from the classifier or the oracle.
        logits: (N, M, S, S) of a prompt's M masks, see `SamBranch.decode`.
        scores: (N, M) the predicted IoU of each.
    """

    present: Tensor
    cams: Tensor
    slices: Tensor
    organs: Tensor
    boxes: Tensor
    logits: Tensor
    scores: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """The mask with the highest score of each pair: logits (N, S, S), scores (N,)."""
        return select_best(self.logits, self.scores)

    def best_alone(self) -> Detections:
        """The same with the best mask of each pair alone (N, 1, S, S), which takes less memory."""
        logits, scores = self.best()
        return replace(self, logits=logits[:, None], scores=scores[:, None])

    def planes(self) -> tuple[Tensor, Tensor]:
        """Probability of each organ at each pixel (B, K, S, S), 0 where not segmented; and the mask's score (B, K)."""
        logits, scores = self.best()
        planes = torch.zeros_like(self.cams)
        ranks = torch.zeros_like(self.present)
        planes[self.slices, self.organs] = logits.sigmoid()
        ranks[self.slices, self.organs] = scores
        return planes, ranks

    def classes(self) -> Tensor:
        """Classes (B, S, S) uint8, see `assign_classes`."""
        return assign_classes(*self.planes())


def select_best(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The mask with the highest score of each prompt: logits (N, S, S), scores (N,), for (N, M, S, S) and (N, M)."""
    scores, choice = scores.max(dim=1)
    return logits[torch.arange(len(choice), device=choice.device), choice], scores


def assign_classes(planes: Tensor, scores: Tensor) -> Tensor:
    """Each pixel gets the organ of highest score among those with a probability above 0.5 there; 0 is background.

    Args:
        planes: (B, K, H, W) probabilities.
        scores: (B, K) the predicted IoU of each mask; may be below 0.

    Returns:
        (B, H, W) uint8.
    """
    # The sigmoid keeps the order and makes every score positive; 0 means no organ.
    claims = (planes > 0.5) * scores.sigmoid()[:, :, None, None]
    return likeliest(torch.zeros_like(claims[:, 0]), claims.transpose(0, 1))


class MixModel(nn.Module):
    """Classifier and SAM branch.

    Args:
        classifier, branch: the two branches.
        size: side of the slices in pixels.
        threshold: of the classifier's map, at and above which a pixel counts as object.
    """

    def __init__(self, classifier: Classifier, branch: SamBranch, size: int, threshold: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.branch = branch
        self.frame = SquareFrame.of((size, size), branch.recipe)
        self.threshold = threshold

    def forward(self, slices: Tensor, map_slices: Tensor, prompts: PromptBatch) -> dict[str, Tensor]:
        """One step of training.

        Args:
            slices: (B, 1, S, S), for the classification loss.
            map_slices: (L, 1, S, S), for the loss of the classifier's map.
            prompts: of labelled slices.

        Returns:
            "present": (B, K) logits. "cams": (L, K, S, S) in [0, 1]. "masks": (N, M, S, S) logits and "scores":
            (N, M), for the N prompts.
        """
        last = self.classifier.maps(torch.cat([slices, map_slices]))
        present = self.classifier.logits(last[: len(slices)])
        map_cams = self._cams(last[len(slices) :], slices.shape[-1], least=MIN_CAM_RANGE)
        _, cams = self._classify(prompts.slices)
        boxes, _ = boxes_of_cams(cams, self.threshold)
        pairs = torch.arange(len(prompts.organs), device=cams.device), prompts.organs
        use_mask_box = prompts.use_mask_box | (paired_box_iou(boxes[pairs], prompts.boxes) < MIN_BOX_IOU)
        boxes = torch.where(use_mask_box[:, None], prompts.boxes, boxes[pairs])
        maps = self.encode(prompts.slices) if prompts.maps is None else prompts.maps
        logits, scores = self.decode(maps, boxes, cams[pairs])
        return {"present": present, "cams": map_cams, "masks": logits, "scores": scores}

    def encode(self, slices: Tensor) -> Tensor:
        """The encoder's maps (B, C, h, w) of slices (B, 1, S, S) in [0, 1]."""
        return self.branch.encode(self.frame.to_model_input(slices[:, 0], self.branch.recipe))

    def decode(self, maps: Tensor, boxes: Tensor, cams: Tensor) -> tuple[Tensor, Tensor]:
        """All masks of each prompt.

        Args:
            maps: (N, C, h, w) of the encoder, one for each prompt.
            boxes: (N, 4) in pixels of the slice, the maxima exclusive.
            cams: (N, S, S) in [0, 1].

        Returns:
            logits (N, M, S, S) on the pixels of the slices, and the predicted IoU of each (N, M).
        """
        frame = self.frame
        logits, scores = self.branch.decode(maps, frame.boxes_to_model(boxes), frame.masks_to_model(cams))
        resized = frame.masks_to_slice(logits.flatten(0, 1)).reshape(*logits.shape[:2], frame.height, frame.width)
        return resized, scores.float()

    @torch.no_grad()
    def find(self, slices: Tensor, maps: Maps | None = None, oracle: tuple[Tensor, Tensor] | None = None) -> Detections:
        """Organs and their masks in slices, prompted by the classifier only.

        The classifier's box is coarse: the mask found with it is segmented again with the box around that mask.

        Args:
            slices: (B, 1, S, S) in [0, 1].
            maps: returns cached maps of the encoder; called for slices with an organ to segment only.
            oracle: boxes (B, K, 4) of reference masks, in pixels, and where there are any (B, K), for the oracle figure
                only: they replace the classifier's boxes and its decision whether the organ is present.
        """
        present, cams = self._classify(slices)
        boxes, sought = boxes_of_cams(cams, self.threshold)
        sought &= present >= PRESENCE_THRESHOLD
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
        given, of_pairs = boxes[picture, organ], cams[picture, organ]
        logits, scores = self.decode_each(encoded, which, given, of_pairs)
        if oracle is None:
            again = expand_mask_boxes(select_best(logits, scores)[0] > 0, given)
            logits, scores = self.decode_each(encoded, which, again, of_pairs)
        return Detections(present, cams, picture, organ, given, logits, scores)

    @torch.no_grad()
    def decode_each(self, maps: Tensor, map_of: Tensor, boxes: Tensor, cams: Tensor) -> tuple[Tensor, Tensor]:
        """As `decode`, `PROMPTS_AT_ONCE` at a time; of each of the N prompts, `map_of` (N,) is the index of its map."""
        parts = [
            self.decode(maps[map_of[part]], boxes[part], cams[part])
            for part in torch.split(torch.arange(len(boxes), device=boxes.device), PROMPTS_AT_ONCE)
        ]
        logits, scores = (torch.cat(part).float() for part in zip(*parts, strict=True))
        return logits, scores

    @torch.no_grad()
    def _classify(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier's outputs in evaluation mode: probabilities (B, K), maps in [0, 1] (B, K, S, S)."""
        with evaluation_mode(self.classifier):
            last = self.classifier.maps(slices)
            present = self.classifier.logits(last).float().sigmoid()
        return present, self._cams(last, slices.shape[-1])

    def _cams(self, last: Tensor, size: int, least: float = 1e-20) -> Tensor:
        """Grad-CAM on the classifier's last map (B, C, h, w), in [0, 1] on slices: (B, K, size, size)."""
        return stretch_to_unit_range(resize_cams(self.classifier.grad_cam(last), size), least)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode of a module, restored to the previous mode afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
