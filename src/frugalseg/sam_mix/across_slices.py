"""Masks of an organ from its most confident slices outwards: the mask of each slice gives the boxes of the next.

The classifier's map is coarse, its box often too small, and it finds one component of an organ only. So the classifier
prompts in a few slices only, those of which it and the mask are surest. From each of them the organ is followed in both
directions to its ends: a neighbouring slice is segmented in one box around each component of the mask before, so that
an organ in two parts has two boxes. The masks that the starting slices lead to are averaged.

A mask with the grey values of the organ's surroundings belongs to another organ, and so does a large one in a slice in
which the classifier does not see the organ. `propagation.box_engine`, which starts from slices that a person annotated,
registers the slices instead, and has one box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from frugalseg.imaging.grey_values import Figures, Floats, log_ratio, look_up
from frugalseg.masks.components import Bools, filter_components
from frugalseg.sam_mix.prompts import component_masks

STARTS = 3
"""Slices from which an organ is followed."""
STARTS_APART = 0.1
"""Smallest distance of two of them, relative to the number of slices that show the organ."""
LARGE_AREA = 0.5
"""They show at least this fraction of the organ's largest area."""
LEAST_PIXELS = 12
LEAST_SHARE = 0.05
"""Components smaller than either, the latter relative to the slice's largest, are not followed."""
LEAST_OVERLAP = 0.5
"""IoU with the component before from which a mask is accepted."""
INSIDE = 0.8
"""So is a smaller mask with this fraction inside the component, since an organ ends within few slices."""
SURROUNDINGS = 1 / 32
"""Width of the band around a mask that counts as its surroundings, relative to the slice."""
BLUR = 1 / 320
"""Standard deviation of the blur of grey values, relative to the slice."""
LIKENESS_LIMIT = 4.0
"""Log likelihood ratios of single pixels are clipped to ± this."""
UNSEEN = 0.3
"""An organ has ended where the classifier's probability is below this in a slice with more than this fraction of its
largest area: where an organ is small, the classifier often misses it."""
LOGIT_LIMIT = 4.0
"""Logits are clipped to ± this before they are averaged."""

Decode = Callable[[int, Bools], tuple[Floats, Floats]]
"""A slice, and N masks (N, S, S) whose boxes prompt in it → logits (N, S, S) and scores (N,)."""


@dataclass(frozen=True, eq=False)
class Plane:
    """An organ in one slice.

    Attributes:
        logits: (S, S) in ±`LOGIT_LIMIT`.
        score: predicted IoU.
    """

    logits: Floats
    score: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of an organ in the slices of a scan.

    Attributes:
        grey: (Z, S, S) in [0, 1], the slices, smoothed.
        present: (Z,) probability that the slice shows the organ.
        decode: segments a slice.
    """

    grey: Floats
    present: Floats
    decode: Decode

    @classmethod
    def of(cls, slices: Floats, present: Floats, decode: Decode) -> Evidence:
        """Of slices (Z, S, S) that are not smoothed."""
        sigma = BLUR * slices.shape[-1]
        return cls(ndimage.gaussian_filter(slices, (0, sigma, sigma)), present, decode)


def follow_organ(masks: Bools, confidence: Floats, evidence: Evidence) -> dict[int, Plane]:
    """The slices that show an organ, followed from its most confident ones.

    Args:
        masks: (Z, S, S) the masks of single slices; only the core of the largest component in 3D is used.
        confidence: (Z,) of each of these masks, in 0…1.
        evidence: of the organ.
    """
    core = filter_components(masks.astype(np.uint8), ["core"]) > 0
    large = UNSEEN * np.count_nonzero(core, axis=(1, 2)).max(initial=0)
    starts = choose_starts(core, confidence)
    return _average([dict(_follow(core[z], z, float(confidence[z]), large, evidence)) for z in starts])


def choose_starts(masks: Bools, confidence: Floats) -> list[int]:
    """Up to `STARTS` of the most confident slices that show much of the organ and are not neighbours."""
    areas = np.count_nonzero(masks, axis=(1, 2))
    apart = STARTS_APART * np.count_nonzero(areas)
    chosen: list[int] = []
    for z in np.argsort(-confidence, kind="stable"):
        large = areas[z] > 0 and areas[z] >= LARGE_AREA * areas.max()
        if large and len(chosen) < STARTS and all(abs(z - other) >= apart for other in chosen):
            chosen.append(int(z))
    return chosen


def _follow(mask: Bools, start: int, score: float, large: float, evidence: Evidence) -> Iterator[tuple[int, Plane]]:
    """The starting slice, and all slices that the organ reaches from it in both directions."""
    yield start, Plane(np.where(mask, LOGIT_LIMIT, -LOGIT_LIMIT).astype(np.float32), score)
    near = ndimage.binary_dilation(mask, iterations=round(SURROUNDINGS * len(mask)))
    ratio = log_ratio(evidence.grey[start], mask, near)
    for order in (range(start + 1, len(evidence.grey)), range(start - 1, -1, -1)):
        before = mask
        for z in order:
            found = _segment_next(before, z, ratio, evidence)
            if found is None:
                break
            before = found.logits > 0
            if evidence.present[z] < UNSEEN and np.count_nonzero(before) > large:
                break
            yield z, found


def _segment_next(before: Bools, z: int, ratio: Figures, evidence: Evidence) -> Plane | None:
    """The organ in slice `z` by the mask of the slice before; None where it has ended."""
    components = component_masks(before, LEAST_PIXELS, LEAST_SHARE)
    if not len(components):
        return None
    likeness = look_up(ratio, evidence.grey[z]).clip(-LIKENESS_LIMIT, LIKENESS_LIMIT)
    accepted = [
        (logits, score)
        for component, logits, score in zip(components, *evidence.decode(z, components), strict=True)
        if _continues(component, logits > 0) and likeness[logits > 0].mean() >= 0
    ]
    if not accepted:
        return None
    logits = np.max([logits for logits, _ in accepted], axis=0).clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    return Plane(logits, float(np.mean([score for _, score in accepted])))


def _continues(component: Bools, mask: Bools) -> bool:
    """Whether a mask is that of the component before, or of its end."""
    both, area, area_before = (int(np.count_nonzero(each)) for each in (component & mask, mask, component))
    if both == 0:
        return False
    return both >= LEAST_OVERLAP * (area + area_before - both) or (area < area_before and both >= INSIDE * area)


def _average(found: Sequence[dict[int, Plane]]) -> dict[int, Plane]:
    """The mean over all starts; a start that does not reach a slice votes against the organ there."""
    slices = sorted(set().union(*found))
    averaged = {}
    for z in slices:
        there = [each[z] for each in found if z in each]
        logits = (sum(plane.logits for plane in there) - LOGIT_LIMIT * (len(found) - len(there))) / len(found)
        averaged[z] = Plane(np.asarray(logits, np.float32), float(np.mean([plane.score for plane in there])))
    return averaged
