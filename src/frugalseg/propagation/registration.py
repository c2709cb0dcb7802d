"""Where the anatomy of one slice is found in the next: a displacement field, and masks warped by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Figures = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

LEVELS_MM = (4.0, 2.0, 1.0)
"""Pixels in which slices are looked at, one after the other: large movements first. Finer detail moves no organ."""
WINDOW_MM = 3.5
"""Standard deviation of the window whose pixels are taken to move together; 2 pixels at least."""
ITERATIONS = 5
"""Improvements on each level."""
SMOOTHNESS = 3e-4
"""Weight of the smoothness term, in squared grey values a pixel: what has no structure moves as its surroundings do."""


@dataclass(frozen=True)
class SliceRegion:
    """A part of a slice; what is worked on, for speed.

    Attributes:
        rows, columns: of the slice.
    """

    rows: slice
    columns: slice

    @classmethod
    def around(cls, masks: Bools, margin_mm: float, pixel_mm: tuple[float, float]) -> SliceRegion:
        """The rectangle around masks (K, H, W), not all empty, with a margin."""
        there: Bools = np.logical_or.reduce(masks)
        spans = []
        for axis, mm in ((1, pixel_mm[0]), (0, pixel_mm[1])):
            found = np.flatnonzero(np.logical_or.reduce(there, axis=axis))
            reach = int(np.ceil(margin_mm / mm))
            spans.append(slice(max(0, int(found[0]) - reach), int(found[-1]) + 1 + reach))
        return cls(spans[0], spans[1])

    def crop(self, planes: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The part of (…, H, W); a view."""
        return planes[..., self.rows, self.columns]


def displacement(before: Floats, after: Floats, pixel_mm: tuple[float, float], most_mm: float) -> Floats:
    """For every pixel of `after`, where in `before` its tissue was.

    By the method of Lucas and Kanade (IJCAI 1981), from coarse to fine, with a weight on moving as the
    surroundings do.

    Args:
        before, after: (H, W) in [0, 1], neighbouring slices.
        pixel_mm: mm between rows, and between columns.
        most_mm: nothing moves further along rows or columns.

    Returns:
        (2, H, W) rows and columns to add, in pixels.
    """
    field = np.zeros((2, *before.shape), np.float32)
    for level_mm in LEVELS_MM:
        shape = tuple(min(n, max(4, round(n * mm / level_mm))) for n, mm in zip(before.shape, pixel_mm, strict=True))
        scale = np.array([n / m for n, m in zip(before.shape, shape, strict=True)], np.float32)[:, None, None]
        own_mm = scale[:, 0, 0].astype(np.float64) * pixel_mm
        small = [_resize(plane, shape) for plane in (before, after)]
        coarse = np.stack([_resize(plane, shape) for plane in field / scale])
        found = _improve_field(small[0], small[1], coarse, WINDOW_MM / own_mm, most_mm / own_mm)
        field = np.stack([_resize(plane, before.shape) for plane in found]) * scale
        if shape == before.shape:
            break
    return field


def _improve_field(before: Floats, after: Floats, field: Floats, window: Figures, most: Figures) -> Floats:
    """`field` (2, H, W) improved on one level; window and greatest displacement in its pixels."""
    sigma = np.maximum(window, 2.0)
    limit = most.astype(np.float32)[:, None, None]
    for _ in range(ITERATIONS):
        shown = warp(before, field)
        rows, columns = np.gradient(shown)
        off = shown - after
        means = [
            ndimage.gaussian_filter(product, sigma)
            for product in (rows * rows, rows * columns, columns * columns, rows * off, columns * off)
        ]
        a, b, c = means[0] + SMOOTHNESS, means[1], means[2] + SMOOTHNESS
        # Least squares in each window: the step takes the difference away, and the field towards its surroundings'.
        around = [ndimage.gaussian_filter(plane, 2 * sigma) - plane for plane in field]
        down, across = SMOOTHNESS * around[0] - means[3], SMOOTHNESS * around[1] - means[4]
        step = np.stack([c * down - b * across, a * across - b * down]) / (a * c - b * b)
        field = (field + step).clip(-limit, limit).astype(np.float32)
    return field


def warp(plane: Floats, field: Floats) -> Floats:
    """A plane (H, W) of the slice before, warped to the slice after."""
    rows, columns = np.indices(plane.shape, dtype=np.float32)
    moved: Floats = ndimage.map_coordinates(plane, [rows + field[0], columns + field[1]], order=1, mode="nearest")
    return moved


def signed_distance(mask: Bools, pixel_mm: tuple[float, float], most: float) -> Floats:
    """Distance in mm to the border of a mask (H, W), positive inside, cut at ±`most`; −`most` for an empty one."""
    if not mask.any():
        return np.full(mask.shape, -most, dtype=np.float32)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"), sampling=pixel_mm)[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~mask, sampling=pixel_mm)
    half = float(np.mean(pixel_mm)) / 2  # the border runs between pixels
    signed: Floats = np.where(mask, inside - half, half - outside).clip(-most, most).astype(np.float32)
    return signed


def _resize(plane: Floats, shape: tuple[int, ...]) -> Floats:
    """Bilinear between pixel centres, smoothed first where it shrinks."""
    if plane.shape == shape:
        return plane
    import torch
    import torch.nn.functional as F

    resized = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(plane))[None, None],
        shape,
        mode="bilinear",
        align_corners=False,
        antialias=shape[0] < plane.shape[0] or shape[1] < plane.shape[1],
    )
    result: Floats = resized[0, 0].numpy()
    return result
