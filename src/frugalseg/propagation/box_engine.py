"""Propagate objects from slice to slice with any model that takes boxes.

Neighbouring slices are alike. So a slice's masks are expected where the tissue of the slice before has gone
(`propagation.registration`); a box around that prompts the model, and three things are weighed for every pixel: how
far it lies inside or outside the expected mask, what the model says, and whether its grey value is the object's or that
of its surroundings. How much the model and the grey values weigh for an object is calibrated on the annotated slice
itself, where the answer is known. Prompting each slice from the one before is the way of micro-sam (Archit et al.,
Nature Methods 2025) and others; the displacements, the weighing and the calibration are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from frugalseg.options import PropagateOptions
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.promptable.protocol import Promptable
from frugalseg.propagation.passes import BELIEF_LIMIT, Bools, Figures, SliceState
from frugalseg.propagation.registration import Floats, SliceRegion, displacement, signed_distance, warp
from frugalseg.refinement.boxes import Box, box_around, decode_boxes
from frugalseg.refinement.refiner import overlap

REACH = 1.5
"""A model that is sure of itself moves a border by so many slice thicknesses against what was expected."""
LARGEST_DISPLACEMENT = 2.0
"""Tissue moves at most so many slice thicknesses from slice to slice."""
LOGIT_LIMIT = 4.0
"""From this logit on the model counts as sure."""
GREY_WEIGHT = 0.5
"""Full weight of grey values, beside 1 for the model."""
GREY_LIMIT = 2.0
"""From this log ratio of likelihoods on a grey value counts as sure."""
GREY_LEVELS = 32
GREY_BLUR_MM = 1.0
SURROUNDINGS_MM = 10.0
"""So far around an object its surroundings go."""
NO_WEIGHT_IOU, FULL_WEIGHT_IOU = 0.6, 0.9
"""Overlap (IoU) with the annotation, on the annotated slice, up to which the model has no weight for an object, and
from which on its full weight."""
RELIABLE_GREY = 0.3
"""An object ends where it has its surroundings' grey values on average, if these weigh this much or more."""
VIEW_MM = 20.0
"""So far around all objects is looked at."""
SMALLEST_MM2 = 30.0
"""An object that gets smaller than this has ended."""
FAR_MM = 60.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """How much the model and grey values weigh, as found on the annotated slice.

    Attributes:
        model_weight: (K,) of the model's logits for each object, 0…1.
        grey_weight: (K,) of grey values, 0…1, as a share of `GREY_WEIGHT`.
        log_ratios: (K, grey levels) log ratio of likelihoods.
    """

    model_weight: Figures
    grey_weight: Figures
    log_ratios: Figures


class BoxPropagator:
    """Propagates the objects of one annotated slice through a scan.

    Args:
        model: that is prompted.
        scan: whose slices.
        embedder: of the scan's slices.
        boxes: how many boxes at once.
        options: margin, candidates, gate.
        start: the annotated slice.
        masks: (K, H, W) its objects; absent ones are empty.
    """

    def __init__(
        self,
        model: Promptable,
        scan: ScanSlices,
        embedder: Embedder,
        boxes: Batches,
        options: PropagateOptions,
        start: int,
        masks: Bools,
    ) -> None:
        self.model, self.scan, self.embedder, self.boxes, self.options = model, scan, embedder, boxes, options
        self.start = SliceState.from_annotation(start, masks)
        self.cell = scan.pixel_mm[0] * scan.pixel_mm[1]
        self.reach = REACH * scan.thickness_mm
        self.calibration = self._calibrate()

    def propagate(self, order: Sequence[int], state: SliceState | None = None) -> Iterator[SliceState]:
        """The slices of `order`, one after the other; `state` is the slice before the first, or the annotated one."""
        before = state or self.start
        for z in order:
            before = self._propagate_to(before, z).rounded()
            yield before

    def _calibrate(self) -> Calibration:
        """Ask the model, and the grey values, on the annotated slice, and compare with the annotation."""
        masks, z = self.start.masks(), self.start.z
        model_weight, grey_weight = np.zeros((2, len(masks)))
        log_ratios = np.zeros((len(masks), GREY_LEVELS))
        alive = np.flatnonzero(self.start.alive)
        if not len(alive):
            return Calibration(model_weight, grey_weight, log_ratios)
        for k, (logits, _) in zip(alive, self._decode_boxes(z, [self._make_box(masks[k]) for k in alive]), strict=True):
            model_weight[k] = _to_weight(overlap((logits > 0).cpu().numpy(), masks[k]))
        smooth = self._smooth(self.scan(z).numpy())
        for k in alive:
            near = signed_distance(masks[k], self.scan.pixel_mm, FAR_MM) > -SURROUNDINGS_MM
            log_ratios[k] = _log_ratio(smooth, masks[k], near)
            grey_weight[k] = _to_weight(overlap((_look_up(log_ratios[k], smooth) > 0) & near, masks[k]))
        return Calibration(model_weight, grey_weight, log_ratios)

    def _propagate_to(self, before: SliceState, z: int) -> SliceState:
        masks = before.masks() & before.alive[:, None, None]
        found = SliceState.empty(z, masks.shape)
        if not masks.any():
            return found
        view = SliceRegion.around(masks, VIEW_MM, self.scan.pixel_mm)
        was, now = (view.crop(self.scan(slice_).numpy()) for slice_ in (before.z, z))
        distances = self._predict_distances(view.crop(masks), before.alive, was, now)
        expected, own = np.zeros_like(masks), np.zeros_like(masks)
        for k, plane in distances.items():
            view.crop(expected[k])[...] = plane > 0
        was, now = self._smooth(was), self._smooth(now)
        asked = self._decode_boxes(z, [self._make_box(expected[k]) for k in distances]) if distances else iter(())
        for (k, plane), (logits, score) in zip(distances.items(), asked, strict=True):
            said = logits.cpu().numpy()
            own[k], found.score[k] = said > 0, score
            grey = self._compare_grey(k, view.crop(masks[k]), was, now)
            view.crop(found.beliefs[k])[...] = self._combine_evidence(k, plane, view.crop(said), grey)
        settled = found.masks()
        for k in distances:
            found.agreement[k] = overlap(own[k], settled[k])
            found.change[k] = overlap(settled[k], expected[k])
            found.alive[k] = not self._has_ended(k, view.crop(settled[k]), now)
        found.beliefs[~found.alive] = -BELIEF_LIMIT
        return found

    def _predict_distances(self, masks: Bools, alive: Bools, was: Floats, now: Floats) -> dict[int, Floats]:
        """Of each object, unless it is as good as gone, the distance in mm to the border that is expected of it.

        Args:
            masks: (K, h, w) of the slice before.
            alive: (K,) objects that are still there.
            was, now: (h, w) the slice before, and this one.
        """
        field = displacement(was, now, self.scan.pixel_mm, LARGEST_DISPLACEMENT * self.scan.thickness_mm)
        planes = {
            int(k): warp(signed_distance(masks[k], self.scan.pixel_mm, FAR_MM), field) for k in np.flatnonzero(alive)
        }
        return {k: plane for k, plane in planes.items() if self._is_large(plane > 0)}

    def _combine_evidence(self, k: int, distance: Floats, said: Floats, grey: Floats) -> Floats:
        """Beliefs about object `k`, (h, w) in ±`BELIEF_LIMIT`: expected mask, logits and grey values weighted."""
        weighed = distance / self.reach
        weighed += self.calibration.model_weight[k] * (said / LOGIT_LIMIT).clip(-1, 1)
        weighed += GREY_WEIGHT * self.calibration.grey_weight[k] * grey
        if self._is_jump(weighed > 0, distance > 0):
            weighed = distance / self.reach
        return weighed.clip(-BELIEF_LIMIT, BELIEF_LIMIT)

    def _is_jump(self, new: Bools, expected: Bools) -> bool:
        """Whether a mask grows beyond what was expected; one that shrinks may be that of an organ that ends."""
        grows = bool(np.count_nonzero(new) > np.count_nonzero(expected))
        return grows and overlap(new, expected) < self.options.min_overlap

    def _has_ended(self, k: int, settled: Bools, smooth: Floats) -> bool:
        """Whether what is left of an object is too small, or has its surroundings' grey values.

        Args:
            k: which object.
            settled: (h, w) its mask.
            smooth: (h, w) the slice.
        """
        if not self._is_large(settled):
            return True
        likeness = _look_up(self.calibration.log_ratios[k], smooth)[settled].clip(-2 * GREY_LIMIT, 2 * GREY_LIMIT)
        return bool(self.calibration.grey_weight[k] >= RELIABLE_GREY and likeness.mean() < 0)

    def _is_large(self, mask: Bools) -> bool:
        return bool(np.count_nonzero(mask) * self.cell >= SMALLEST_MM2)

    def _make_box(self, mask: Bools) -> Box:
        return box_around(mask, self.options.margin_mm, self.scan.pixel_mm)

    def _decode_boxes(self, z: int, boxes: Sequence[Box]) -> Iterator[tuple[Tensor, float]]:
        """Of each box the logits (H, W) that the model answers on slice `z`, and its score."""
        embedding = self.embedder([z])
        several = self.options.candidates == "several"

        def ask(batch: Sequence[Box]) -> tuple[Tensor, Tensor]:
            return decode_boxes(self.model, self.embedder.frame, embedding, [0] * len(batch), batch, several)

        for logits, scores in self.boxes.run(ask, boxes):
            yield from zip(logits, scores.tolist(), strict=True)

    def _compare_grey(self, k: int, mask: Bools, was: Floats, now: Floats) -> Floats:
        """Whose grey values the pixels of `now` have, from −1 (the surroundings') to 1 (the object's); both smoothed.

        Half from the annotated slice, so that it cannot drift away, half from the slice before.
        """
        near = signed_distance(mask, self.scan.pixel_mm, FAR_MM) > -SURROUNDINGS_MM
        ratio = (self.calibration.log_ratios[k] + _log_ratio(was, mask, near)) / 2
        return (_look_up(ratio, now) / GREY_LIMIT).clip(-1, 1).astype(np.float32)

    def _smooth(self, plane: Floats) -> Floats:
        smooth: Floats = ndimage.gaussian_filter(plane, [GREY_BLUR_MM / mm for mm in self.scan.pixel_mm])
        return smooth


def _to_weight(found: float) -> float:
    """Of what overlapped the annotation (IoU) so well, 0…1."""
    return float(np.clip((found - NO_WEIGHT_IOU) / (FULL_WEIGHT_IOU - NO_WEIGHT_IOU), 0, 1))


def _log_ratio(smooth: Floats, mask: Bools, near: Bools) -> Figures:
    """Of each grey level the log ratio of its likelihoods, in an object over in its surroundings; 0 without either."""
    if not mask.any() or not (near & ~mask).any():
        return np.zeros(GREY_LEVELS)
    ratio: Figures = np.log(_histogram(smooth[mask]) / _histogram(smooth[near & ~mask]))
    return ratio


def _look_up(ratio: Figures, smooth: Floats) -> Figures:
    values: Figures = ratio[(smooth * GREY_LEVELS).astype(int).clip(0, GREY_LEVELS - 1)]
    return values


def _histogram(values: Floats) -> Figures:
    """Share of each grey level, smoothed; none is 0."""
    counts = np.histogram(values, GREY_LEVELS, (0, 1))[0] + 1.0
    smooth = ndimage.gaussian_filter1d(counts, 1.0)
    shares: Figures = smooth / smooth.sum()
    return shares
