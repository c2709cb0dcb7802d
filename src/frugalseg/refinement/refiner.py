"""Refine the mask of one scan: the bounding box of each piece prompts the model, which segments the piece again.

Source: PolyCL, section 3.3.1 (boxes around a coarse mask, box prompts of Kirillov et al. 2023). The paper leaves open:
the margin (here in mm), what gets a box (here each component), and what to do where the model's mask hardly
overlaps the coarse one (here the coarse piece is kept).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.masks.components import Bools
from frugalseg.options import RefineOptions
from frugalseg.promptable.batches import BOXES_PER_BATCH, SLICES_PER_BATCH, Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.promptable.protocol import Promptable
from frugalseg.records.predictions import OrganRefinement, Refinement
from frugalseg.refinement.boxes import Classes, Piece, decode_boxes, find_pieces, label_parts_3d

KEPT_PIECE_SCORE = 0.5
"""Score of a piece that is kept: where it overlaps another organ's mask from the model, that mask wins."""


@dataclass
class PieceCounts:
    """Counts over the pieces of one organ in one scan.

    Attributes:
        refined, kept, small: pieces replaced by the model's mask, kept because of too little overlap, and too small
            for a box.
        score, iou: sums over the prompted pieces: the IoU predicted by the model, and the IoU of its mask with the
            piece.
    """

    refined: int = 0
    kept: int = 0
    small: int = 0
    score: float = 0.0
    iou: float = 0.0

    @property
    def record(self) -> OrganRefinement:
        """For predictions.json; means are None where no piece was prompted."""
        prompted = self.refined + self.kept
        return OrganRefinement(
            boxes=prompted,
            refined=self.refined,
            kept=self.kept,
            too_small=self.small,
            mean_score=round(self.score / prompted, 4) if prompted else None,
            mean_iou_with_given=round(self.iou / prompted, 4) if prompted else None,
        )


@dataclass
class Refiner:
    """Refines the masks of scans with one model.

    Attributes:
        model: the promptable model.
        options: margin, pieces, thresholds.
        slices, boxes: batch sizes.
    """

    model: Promptable
    options: RefineOptions
    slices: Batches = field(init=False)
    boxes: Batches = field(init=False)

    def __post_init__(self) -> None:
        kind = self.model.device.type
        self.slices = Batches(self.options.batch_size or SLICES_PER_BATCH[kind], "slices")
        self.boxes = Batches(BOXES_PER_BATCH[kind], "boxes")

    def refine(
        self,
        scan: ScanSlices,
        coarse: Classes,
        reference: Classes | None = None,
        cache: Path | None = None,
        advance: Callable[[int], None] = lambda count: None,
        names: Mapping[int, str] | None = None,
    ) -> tuple[Classes, Refinement]:
        """The refined mask of a scan.

        Args:
            scan: its slices.
            coarse: (Z, H, W), classes from 1.
            reference: (Z, H, W) or None. Its boxes replace those of `coarse`; all of the model's masks are then
                accepted, and `coarse` is ignored.
            cache: folder of embeddings.
            advance: called with the number of slices done since the last call.
            names: class → organ; by default the class number.

        Returns:
            (Z, H, W) classes, and the counts of what was done.
        """
        prompting = coarse if reference is None else reference
        embedder = Embedder(self.model, scan, cache, self.slices)
        counts: dict[int, PieceCounts] = {
            number: PieceCounts() for number in range(1, int(prompting.max(initial=0)) + 1)
        }
        refined = np.zeros(coarse.shape, dtype=np.uint8)
        outlined = self._outline_scan(scan, prompting, reference is not None, embedder, counts)
        weights = weights_by_distance(scan.thickness_mm) if self.options.smooth_slices else [1.0]
        for z, neighbours in _slide_window(outlined, weights):
            refined[z] = fuse_labels(neighbours, scan.shape)
            advance(1)
        organs = {(names or {}).get(number, str(number)): organ.record for number, organ in counts.items()}
        return refined, Refinement(embedder.encoded + embedder.kept, embedder.kept, organs)

    def _outline_scan(
        self, scan: ScanSlices, mask: Classes, oracle: bool, embedder: Embedder, counts: dict[int, PieceCounts]
    ) -> Iterator[dict[int, Outline]]:
        """The outlines of every slice, in order."""
        parts = label_parts_3d(mask, int(mask.max(initial=0))) if self.options.boxes == "component-3d" else None
        min_area = 0.0 if oracle else self.options.min_area_mm2 / (scan.pixel_mm[0] * scan.pixel_mm[1])
        waiting: list[tuple[int, list[Piece]]] = []
        for z, classes in enumerate(mask):
            waiting.append((z, find_pieces(z, classes, self.options.boxes, None if parts is None else parts[z])))
            if sum(bool(pieces) for _, pieces in waiting) == self.slices.size or z == len(mask) - 1:
                yield from self._outline_slices(scan, waiting, min_area, oracle, embedder, counts)
                waiting = []

    def _outline_slices(
        self,
        scan: ScanSlices,
        waiting: Sequence[tuple[int, list[Piece]]],
        min_area: float,
        oracle: bool,
        embedder: Embedder,
        counts: dict[int, PieceCounts],
    ) -> list[dict[int, Outline]]:
        outlines: dict[int, dict[int, Outline]] = {z: {} for z, _ in waiting}
        prompted = []
        for piece in (piece for _, pieces in waiting for piece in pieces):
            if piece.area() < min_area:
                counts[piece.number].small += 1
                _add_outline(outlines[piece.z], piece.number, _make_kept_outline(piece.to_slice_mask(scan.shape)))
            else:
                prompted.append(piece)
        if prompted:
            order = sorted({piece.z for piece in prompted})
            embedding = embedder(order)
            index = {z: i for i, z in enumerate(order)}

            def decode(batch: Sequence[Piece]) -> tuple[Tensor, Tensor]:
                boxes = [piece.box(self.options.margin_mm, scan.pixel_mm, scan.shape) for piece in batch]
                several = self.options.candidates == "several"
                indices = [index[piece.z] for piece in batch]
                return decode_boxes(self.model, embedder.frame, embedding, indices, boxes, several)

            start = 0
            for logits, scores in self.boxes.run(decode, prompted):
                for piece, plane, score in zip(prompted[start : start + len(scores)], logits, scores, strict=True):
                    outline = self._choose_outline(piece, plane, float(score), scan.shape, oracle, counts[piece.number])
                    _add_outline(outlines[piece.z], piece.number, outline)
                start += len(scores)
        return list(outlines.values())

    def _choose_outline(
        self, piece: Piece, logits: Tensor, score: float, shape: tuple[int, int], oracle: bool, counts: PieceCounts
    ) -> Outline:
        """The model's outline of a piece, or the piece itself where the two overlap too little."""
        before = piece.to_slice_mask(shape)
        iou = overlap((logits > 0).cpu().numpy(), before)
        counts.score, counts.iou = counts.score + score, counts.iou + iou
        if not oracle and iou < self.options.min_iou:
            counts.kept += 1
            return _make_kept_outline(before)
        counts.refined += 1
        probability = torch.sigmoid(logits).cpu().numpy()
        return Outline(probability, probability * np.float32(max(score, 1e-6)))


def _make_kept_outline(mask: Bools) -> Outline:
    probability = mask.astype(np.float32)
    return Outline(probability, KEPT_PIECE_SCORE * probability)


def _add_outline(outlines: dict[int, Outline], number: int, outline: Outline) -> None:
    outlines[number] = outlines[number].merge(outline) if number in outlines else outline


def _slide_window(
    outlined: Iterator[dict[int, Outline]], weights: Sequence[float]
) -> Iterator[tuple[int, list[tuple[float, dict[int, Outline]]]]]:
    """Each slice's number with the weighted outlines of it and its neighbours, as far as the volume has them."""
    reach = len(weights) - 1
    window: deque[tuple[int, dict[int, Outline]]] = deque(maxlen=2 * reach + 1)
    last = -1

    def collect_neighbours(z: int) -> list[tuple[float, dict[int, Outline]]]:
        return [(weights[abs(other - z)], outlines) for other, outlines in window if abs(other - z) <= reach]

    for z, outlines in enumerate(outlined):
        window.append((z, outlines))
        last = z
        if z >= reach:
            yield z - reach, collect_neighbours(z - reach)
    for z in range(max(0, last + 1 - reach), last + 1):
        yield z, collect_neighbours(z)


Floats = npt.NDArray[np.float32]

SIGMA_MM = 3.0
"""Standard deviation of the Gaussian weights with which outlines are averaged over slices."""
MAX_NEIGHBOURS = 3
"""Most neighbours on each side; limits the memory that their outlines take."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Soft mask of one organ in one slice.

    Attributes:
        probability: (H, W), organ above 0.5.
        score: (H, W), probability times the predicted IoU of the mask; the organ with the highest score wins.
    """

    probability: Floats
    score: Floats

    def merge(self, other: Outline) -> Outline:
        """The union with another part of the same organ."""
        return Outline(np.maximum(self.probability, other.probability), np.maximum(self.score, other.score))


Outlines = Mapping[int, Outline]
"""Class → outline, of one slice."""


def fuse_labels(neighbours: Sequence[tuple[float, Outlines]], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The classes of a slice, from its outlines and those of its neighbours.

    Args:
        neighbours: weight and outlines of the slice and of those it is averaged with; a class without an outline
            has probability 0 there.
        shape: H, W.

    Returns:
        (H, W), 0 background.
    """
    total = sum(weight for weight, _ in neighbours)
    winner = np.zeros(shape, dtype=np.uint8)
    highest = np.zeros(shape, dtype=np.float32)
    for number in sorted({number for _, outlines in neighbours for number in outlines}):
        probability, score = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for weight, outlines in neighbours:
            if number in outlines:
                probability += np.float32(weight / total) * outlines[number].probability
                score += np.float32(weight / total) * outlines[number].score
        wins = (probability > 0.5) & (score > highest)
        winner[wins], highest[wins] = number, score[wins]
    return winner


def weights_by_distance(thickness_mm: float) -> list[float]:
    """Weights of slices at distance 0, 1, 2, …: a Gaussian in mm, truncated at two sigma."""
    reach = min(MAX_NEIGHBOURS, int(2 * SIGMA_MM / thickness_mm))
    return [float(np.exp(-((n * thickness_mm / SIGMA_MM) ** 2) / 2)) for n in range(reach + 1)]


def overlap(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """IoU of two masks of one shape, 0…1; 0 where both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0
