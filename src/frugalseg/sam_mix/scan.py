"""The masks of a whole scan: each slice by itself, or with boxes from the first masks of the whole scan.

The classifier's box is often too small, and so is the box around the mask found in it. The masks of the neighbouring
slices, which have boxes of their own, show how far the organ reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugalseg.dataset.blank import find_blank
from frugalseg.engine.device import autocast
from frugalseg.masks.components import Bools, filter_components
from frugalseg.options import Precision
from frugalseg.sam_mix.model import PRESENCE_THRESHOLD, Detections, MixModel, select_best
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
    def of(cls, slices: Tensor, shown: Tensor, present: Tensor, planes: Tensor, scores: Tensor) -> SliceMasks:
        """Those of slices (B, 1, S, S), blank ones emptied."""
        visible = ~find_blank(shown[:, 0])
        return cls(slices, present * visible[:, None], planes * visible[:, None, None, None], scores)


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
        advance: called with the number of slices after every batch that the classifier has seen.
    """

    model: MixModel
    precision: Precision
    images: Images
    depth: int
    at_once: int
    maps: Maps | None = None
    advance: Callable[[int], None] = lambda _: None
    remembered: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def by_slice(self, oracle: Oracle | None = None) -> Iterator[SliceMasks]:
        """All slices in order, each by itself."""
        for slices, shown in self._batches():
            found = self._find(slices, shown, self.maps, oracle)
            yield SliceMasks.of(slices, shown, found.present, *found.planes())

    @torch.no_grad()
    def with_scan_boxes(self, wanted: Sequence[bool]) -> Iterator[SliceMasks]:
        """All slices in order; the organs of which `wanted` is true are segmented again with boxes from the scan."""
        shown: list[Tensor] = []
        first: list[Detections] = []
        for slices, images in self._batches():
            shown.append(images)
            first.append(self._find(slices, images, self.maps or self._remember).best_alone())
        visible = ~find_blank(torch.cat(shown)[:, 0]).cpu()
        again = {organ: self._segment_again(first, visible, organ) for organ, chosen in enumerate(wanted) if chosen}
        for slices, images, found in zip(self._numbers(), shown, first, strict=True):
            planes, scores = found.planes()
            for organ, (organ_planes, organ_scores) in again.items():
                planes[:, organ], scores[:, organ] = organ_planes[slices].to(planes), organ_scores[slices].to(scores)
            yield SliceMasks.of(slices, images, found.present, planes, scores)

    def _numbers(self) -> Sequence[Tensor]:
        return torch.split(torch.arange(self.depth), self.at_once)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of slices, and the slices."""
        for slices in self._numbers():
            yield slices, self.images(slices)

    def _find(self, slices: Tensor, shown: Tensor, maps: Maps | None, oracle: Oracle | None = None) -> Detections:
        of_batch = None if maps is None else lambda wanted: maps(slices[wanted.cpu()])
        with autocast(self.precision, shown.device):
            found = self.model.find(shown, of_batch, None if oracle is None else oracle(slices))
        self.advance(len(slices))
        return found

    def _remember(self, slices: Tensor) -> Tensor:
        """The encoder's maps, each slice encoded once, alone, and kept: of a slice, SAM's take 2 MiB."""
        for z in slices.tolist():
            if z not in self.remembered:
                maps = self.model.encode(self.images(torch.tensor([z])))[0]
                small = bool(maps.abs().amax() < torch.finfo(torch.float16).max)
                self.remembered[z] = maps.half() if small else maps.float()
        return torch.stack([self.remembered[z].float() for z in slices.tolist()])

    def _segment_again(self, first: Sequence[Detections], visible: Tensor, organ: int) -> tuple[Tensor, Tensor]:
        """Probabilities (Z, S, S) and scores (Z,) of an organ, with boxes from the masks of `visible` slices (Z,)."""
        cams = torch.cat([found.cams[:, organ] for found in first])
        masks = torch.zeros(cams.shape, dtype=torch.bool)
        for numbers, found in zip(self._numbers(), first, strict=True):
            pairs = torch.nonzero(found.organs == organ)[:, 0]
            masks[numbers[found.slices[pairs].cpu()]] = (found.logits[pairs, 0] > 0).cpu()
        present = torch.cat([found.present[:, organ] for found in first]).float().cpu()
        masks &= visible[:, None, None]
        around = surround(masks.numpy(), ((present >= PRESENCE_THRESHOLD) & visible).numpy())
        planes, scores = torch.zeros(cams.shape), torch.zeros(len(cams))
        for slices in self._numbers():
            slices = slices[torch.from_numpy(around[slices.numpy()].any(axis=(1, 2)))]
            if not len(slices):
                continue
            boxes = expand_mask_boxes(torch.from_numpy(around[slices.numpy()]), torch.zeros(len(slices), 4))
            with autocast(self.precision, cams.device):
                maps = (self.maps or self._remember)(slices)
                each = torch.arange(len(slices), device=cams.device)
                decoded = self.model.decode_each(maps, each, boxes.to(cams.device), cams[slices.to(cams.device)])
            logits, score = select_best(*decoded)
            planes[slices], scores[slices] = logits.sigmoid().cpu(), score.cpu()
        return planes, scores


def surround(masks: Bools, present: Bools) -> Bools:
    """In each slice the union of an organ's mask with those of the two neighbours, to take the box from.

    Args:
        masks: (Z, S, S), of which only the core of the largest component in 3D counts.
        present: (Z,) slices in which the classifier detects the organ: the only ones that are segmented without a mask
            of their own.
    """
    core = filter_components(masks.astype(np.uint8), ["core"]) > 0
    union = core.copy()
    union[1:] |= core[:-1]
    union[:-1] |= core[1:]
    union[~(core.any(axis=(1, 2)) | present)] = False
    return union
