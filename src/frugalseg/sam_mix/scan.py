"""The masks of a whole scan: slice by slice, or of each organ from its most confident slices outwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugalseg.dataset.blank import find_blank
from frugalseg.engine.device import autocast
from frugalseg.imaging.grey_values import Floats
from frugalseg.masks.components import Bools
from frugalseg.options import Precision
from frugalseg.sam_mix.across_slices import Evidence, Plane, follow_organ
from frugalseg.sam_mix.model import Detections, MixModel, select_best
from frugalseg.sam_mix.prompts import expand_mask_boxes

Images = Callable[[Tensor], Tensor]
"""Slices by number (B,) → (B, 1, S, S) in [0, 1], on the model's device."""
Maps = Callable[[Tensor], Tensor]
"""Slices by number (B,) → the encoder's maps, on the model's device."""
Oracle = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Slices by number (B,) → boxes and where there are any, see `MixModel.find`."""


class SliceMasks(NamedTuple):
    """Slices of a scan.

    Attributes:
        slices: (B,) their numbers.
        present: (B, K) probability that the slice shows the organ, by the classifier; 0 in blank slices.
        planes: (B, K, S, S) probability of each organ at each pixel, 0 where not segmented.
        scores: (B, K) predicted IoU of the organ's mask.
    """

    slices: Tensor
    present: Tensor
    planes: Tensor
    scores: Tensor

    @classmethod
    def of(cls, slices: Tensor, shown: Tensor, found: Detections) -> SliceMasks:
        """Those of the slices (B, 1, S, S) in `shown`."""
        visible = ~find_blank(shown[:, 0])
        planes, scores = found.planes()
        return cls(slices, found.present * visible[:, None], planes * visible[:, None, None, None], scores)


@dataclass(frozen=True, eq=False)
class ScanSegmenter:
    """Segments one scan.

    Attributes:
        model: the model.
        precision: of its computations.
        images: the scan's slices.
        depth: their number.
        at_once: slices of a batch.
        maps: cached maps of the encoder; None to compute them.
    """

    model: MixModel
    precision: Precision
    images: Images
    depth: int
    at_once: int
    maps: Maps | None = None
    remembered: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def by_slice(self, oracle: Oracle | None = None) -> Iterator[SliceMasks]:
        """All slices in order, each by itself."""
        for slices, shown in self._batches():
            yield SliceMasks.of(slices, shown, self._find(slices, shown, self.maps, oracle))

    @torch.no_grad()
    def across_slices(self, across: Sequence[bool]) -> Iterator[SliceMasks]:
        """All slices in order; the organs of which `across` is true are followed from slice to slice."""
        shown, first = [], []
        for slices, images in self._batches():
            shown.append(images)
            first.append(self._find(slices, images, self.maps or self._remember).best_alone())
        grey = torch.cat(shown)[:, 0].float().cpu().numpy()
        followed = {organ: self._follow(first, grey, organ) for organ, wanted in enumerate(across) if wanted}
        for slices, images, found in zip(self._numbers(), shown, first, strict=True):
            masks = SliceMasks.of(slices, images, found)
            for organ, planes in followed.items():
                masks.planes[:, organ], masks.scores[:, organ] = _stack(planes, slices, masks.planes[:, organ])
            yield masks

    def _numbers(self) -> Sequence[Tensor]:
        return torch.split(torch.arange(self.depth), self.at_once)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of slices, and the slices."""
        for slices in self._numbers():
            yield slices, self.images(slices)

    def _find(self, slices: Tensor, shown: Tensor, maps: Maps | None, oracle: Oracle | None = None) -> Detections:
        of_batch = None if maps is None else lambda wanted: maps(slices[wanted.cpu()])
        with autocast(self.precision, shown.device):
            return self.model.find(shown, of_batch, None if oracle is None else oracle(slices))

    def _remember(self, slices: Tensor) -> Tensor:
        """The encoder's maps, each slice encoded once, alone, and kept: of a slice, SAM's take 2 MiB."""
        for z in slices.tolist():
            if z not in self.remembered:
                maps = self.model.encode(self.images(torch.tensor([z])))[0]
                small = bool(maps.abs().amax() < torch.finfo(torch.float16).max)
                self.remembered[z] = maps.half() if small else maps.float()
        return torch.stack([self.remembered[z].float() for z in slices.tolist()])

    def _follow(self, first: Sequence[Detections], grey: Floats, organ: int) -> dict[int, Plane]:
        """The slices that show an organ, from the masks of single slices."""
        cams = torch.cat([found.cams[:, organ] for found in first])
        masks, confidence = np.zeros(cams.shape, dtype=bool), np.zeros(len(cams), dtype=np.float32)
        for numbers, found in zip(self._numbers(), first, strict=True):
            pairs = torch.nonzero(found.organs == organ)[:, 0]
            slices = found.slices[pairs]
            sure = found.present[slices, organ].float() * found.scores[pairs, 0].clamp(0, 1)
            masks[numbers[slices.cpu()].numpy()] = (found.logits[pairs, 0] > 0).cpu().numpy()
            confidence[numbers[slices.cpu()].numpy()] = sure.cpu().numpy()

        def decode(z: int, components: Bools) -> tuple[Floats, Floats]:
            there = torch.from_numpy(components).to(cams.device)
            boxes = expand_mask_boxes(there, cams.new_zeros(len(there), 4))
            number, only = torch.tensor([z]), torch.zeros(len(there), dtype=torch.int64)
            with autocast(self.precision, cams.device):
                maps = (self.maps or self._remember)(number)
                logits, scores = select_best(*self.model.decode_each(maps, only, boxes, cams[[z] * len(there)]))
            return logits.cpu().numpy(), scores.cpu().numpy()

        present = torch.cat([found.present[:, organ] for found in first]).float().cpu().numpy()
        return follow_organ(masks, confidence, Evidence.of(grey, present, decode))


def _stack(planes: dict[int, Plane], slices: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (B, S, S) and scores (B,) of an organ in some slices, as a tensor `like` (B, S, S)."""
    probabilities, scores = torch.zeros_like(like), like.new_zeros(len(like))
    for i, z in enumerate(slices.tolist()):
        if z in planes:
            probabilities[i] = torch.from_numpy(planes[z].logits).sigmoid()
            scores[i] = planes[z].score
    return probabilities, scores
