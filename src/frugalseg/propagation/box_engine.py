"""Propagate objects from slice to slice with any model that takes box prompts.

Neighbouring slices are similar, so the masks of the slice before, warped by registration
(`propagation.registration`), are the expected masks of a slice. The bounding box of each prompts the model, and three
terms are summed for every pixel: its signed distance to the border of the expected mask, the model's logit, and the
likelihood ratio of its grey value for the object against its surroundings. The weights of the model and of the grey
values are calibrated for each object on the annotated slice, where the mask is known. micro-sam (Archit et al., Nature
Methods 2025) and others prompt each slice from the one before; the registration, the sum and the calibration are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from frugalseg.masks.components import Bools
from frugalseg.options import PropagateOptions
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.promptable.protocol import Promptable
from frugalseg.propagation.passes import BELIEF_LIMIT, Figures, SliceState
from frugalseg.propagation.registration import Floats, SliceRegion, displacement, signed_distance, warp
from frugalseg.refinement.boxes import Box, box_around, decode_boxes
from frugalseg.refinement.refiner import overlap

REACH = 1.5
"""A model at its logit limit moves the expected border by this many slice thicknesses."""
LARGEST_DISPLACEMENT = 2.0
"""Limit of the displacement between neighbouring slices, in slice thicknesses."""
LOGIT_LIMIT = 4.0
"""Logits of the model are clipped to ± this."""
GREY_WEIGHT = 0.5
"""Full weight of grey values; that of the model is 1."""
GREY_LIMIT = 2.0
"""Log likelihood ratios of grey values are clipped to ± this."""
GREY_LEVELS = 32
GREY_BLUR_MM = 1.0
SURROUNDINGS_MM = 10.0
"""Width of the band around an object that counts as its surroundings."""
NO_WEIGHT_IOU, FULL_WEIGHT_IOU = 0.6, 0.9
"""IoU with the annotation, on the annotated slice, up to which the model or the grey values have no weight, and from
which they have full weight."""
RELIABLE_GREY = 0.3
"""Weight of grey values from which an object ends where it has, on average, the grey values of its surroundings."""
VIEW_MM = 20.0
"""Margin around all objects of the region that is computed."""
SMALLEST_MM2 = 30.0
"""An object smaller than this has ended."""
FAR_MM = 60.0
"""Signed distances are clipped to ± this."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Weights of the model and of grey values, calibrated on the annotated slice.

    Attributes:
        model_weight: (K,) of the model's logits for each object, 0…1.
        grey_weight: (K,) of grey values, 0…1, as a fraction of `GREY_WEIGHT`.
        log_ratios: (K, grey levels) log likelihood ratio of the object against its surroundings.
    """

    model_weight: Figures
    grey_weight: Figures
    log_ratios: Figures


class BoxPropagator:
    """Propagates the objects of one annotated slice through a scan.

    Args:
        model: the promptable model.
        scan: its slices.
        embedder: of these slices.
        boxes: batch size of boxes.
        options: margin, candidates, smallest overlap.
        start: the annotated slice.
        masks: (K, H, W) its objects; the masks of absent ones are empty.
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
        self.pixel_area_mm2 = scan.pixel_mm[0] * scan.pixel_mm[1]
        self.reach = REACH * scan.thickness_mm
        self.calibration = self._calibrate()

    def propagate(self, order: Sequence[int], state: SliceState | None = None) -> Iterator[SliceState]:
        """Yield the slices of `order`; `state` is the slice before the first, by default the annotated slice."""
        before = state or self.start
        for z in order:
            before = self._propagate_to(before, z).rounded()
            yield before

    def _calibrate(self) -> Calibration:
        """Compare the masks from the model and from the grey values with the annotation, on the annotated slice."""
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
        previous, current = (view.crop(self.scan(slice_).numpy()) for slice_ in (before.z, z))
        distances = self._predict_distances(view.crop(masks), before.alive, previous, current)
        expected, model_mask = np.zeros_like(masks), np.zeros_like(masks)
        for k, plane in distances.items():
            view.crop(expected[k])[...] = plane > 0
        previous, current = self._smooth(previous), self._smooth(current)
        answers = self._decode_boxes(z, [self._make_box(expected[k]) for k in distances]) if distances else iter(())
        for (k, plane), (answer, score) in zip(distances.items(), answers, strict=True):
            logits = answer.cpu().numpy()
            model_mask[k], found.score[k] = logits > 0, score
            grey = self._weigh_grey(k, view.crop(masks[k]), previous, current)
            view.crop(found.beliefs[k])[...] = self._combine_evidence(k, plane, view.crop(logits), grey)
        settled = found.masks()
        for k in distances:
            found.agreement[k] = overlap(model_mask[k], settled[k])
            found.change[k] = overlap(settled[k], expected[k])
            found.alive[k] = not self._has_ended(k, view.crop(settled[k]), current)
        found.beliefs[~found.alive] = -BELIEF_LIMIT
        return found

    def _predict_distances(self, masks: Bools, alive: Bools, previous: Floats, current: Floats) -> dict[int, Floats]:
        """Object → signed distance in mm to its expected border, for objects that are not expected to be too small.

        Args:
            masks: (K, h, w) of the slice before.
            alive: (K,) whether each object is still present.
            previous, current: (h, w) the slice before, and this one.
        """
        field = displacement(previous, current, self.scan.pixel_mm, LARGEST_DISPLACEMENT * self.scan.thickness_mm)
        planes = {
            int(k): warp(signed_distance(masks[k], self.scan.pixel_mm, FAR_MM), field) for k in np.flatnonzero(alive)
        }
        return {k: plane for k, plane in planes.items() if self._is_large(plane > 0)}

    def _combine_evidence(self, k: int, distance: Floats, logits: Floats, grey: Floats) -> Floats:
        """Beliefs about object `k`, (h, w) in ±`BELIEF_LIMIT`: expected mask, logits and grey values weighted."""
        weighed = distance / self.reach
        weighed += self.calibration.model_weight[k] * (logits / LOGIT_LIMIT).clip(-1, 1)
        weighed += GREY_WEIGHT * self.calibration.grey_weight[k] * grey
        if self._is_jump(weighed > 0, distance > 0):
            weighed = distance / self.reach
        return weighed.clip(-BELIEF_LIMIT, BELIEF_LIMIT)

    def _is_jump(self, new: Bools, expected: Bools) -> bool:
        """Whether a mask grows too far beyond the expected one; a shrinking mask may be that of an ending organ."""
        grows = bool(np.count_nonzero(new) > np.count_nonzero(expected))
        return grows and overlap(new, expected) < self.options.min_overlap

    def _has_ended(self, k: int, settled: Bools, smooth: Floats) -> bool:
        """Whether an object is too small, or has the grey values of its surroundings.

        Args:
            k: the object.
            settled: (h, w) its mask.
            smooth: (h, w) the smoothed slice.
        """
        if not self._is_large(settled):
            return True
        likeness = _look_up(self.calibration.log_ratios[k], smooth)[settled].clip(-2 * GREY_LIMIT, 2 * GREY_LIMIT)
        return bool(self.calibration.grey_weight[k] >= RELIABLE_GREY and likeness.mean() < 0)

    def _is_large(self, mask: Bools) -> bool:
        return bool(np.count_nonzero(mask) * self.pixel_area_mm2 >= SMALLEST_MM2)

    def _make_box(self, mask: Bools) -> Box:
        return box_around(mask, self.options.margin_mm, self.scan.pixel_mm)

    def _decode_boxes(self, z: int, boxes: Sequence[Box]) -> Iterator[tuple[Tensor, float]]:
        """The logits (H, W) and the score of the model for each box on slice `z`."""
        embedding = self.embedder([z])
        several = self.options.candidates == "several"

        def decode(batch: Sequence[Box]) -> tuple[Tensor, Tensor]:
            return decode_boxes(self.model, self.embedder.frame, embedding, [0] * len(batch), batch, several)

        for logits, scores in self.boxes.run(decode, boxes):
            yield from zip(logits, scores.tolist(), strict=True)

    def _weigh_grey(self, k: int, mask: Bools, previous: Floats, current: Floats) -> Floats:
        """Grey-value evidence of each pixel of `current`, from −1 (surroundings) to 1 (object).

        The mean of the log ratios of the annotated slice, which prevents drift, and of the slice before. `previous` and
        `current` are smoothed.
        """
        near = signed_distance(mask, self.scan.pixel_mm, FAR_MM) > -SURROUNDINGS_MM
        ratio = (self.calibration.log_ratios[k] + _log_ratio(previous, mask, near)) / 2
        return (_look_up(ratio, current) / GREY_LIMIT).clip(-1, 1).astype(np.float32)

    def _smooth(self, plane: Floats) -> Floats:
        smooth: Floats = ndimage.gaussian_filter(plane, [GREY_BLUR_MM / mm for mm in self.scan.pixel_mm])
        return smooth


def _to_weight(iou: float) -> float:
    """Weight 0…1 from an IoU with the annotation."""
    return float(np.clip((iou - NO_WEIGHT_IOU) / (FULL_WEIGHT_IOU - NO_WEIGHT_IOU), 0, 1))


def _log_ratio(smooth: Floats, mask: Bools, near: Bools) -> Figures:
    """Log likelihood ratio of each grey level, object against surroundings; 0 where either is empty."""
    if not mask.any() or not (near & ~mask).any():
        return np.zeros(GREY_LEVELS)
    ratio: Figures = np.log(_histogram(smooth[mask]) / _histogram(smooth[near & ~mask]))
    return ratio


def _look_up(ratio: Figures, smooth: Floats) -> Figures:
    values: Figures = ratio[(smooth * GREY_LEVELS).astype(int).clip(0, GREY_LEVELS - 1)]
    return values


def _histogram(values: Floats) -> Figures:
    """Smoothed histogram that sums to 1; no level is 0."""
    counts = np.histogram(values, GREY_LEVELS, (0, 1))[0] + 1.0
    smooth = ndimage.gaussian_filter1d(counts, 1.0)
    shares: Figures = smooth / smooth.sum()
    return shares
