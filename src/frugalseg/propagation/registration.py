"""Registration of neighbouring slices: a displacement field, and masks warped by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from frugalseg.masks.components import Bools
from frugalseg.promptable.framing import resize

Floats = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

LEVELS_MM = (4.0, 2.0, 1.0)
"""Pixel sizes of the resolution levels, coarse to fine; finer detail does not move an organ."""
WINDOW_MM = 3.5
"""Standard deviation of the window whose pixels are assumed to move together; at least 2 pixels."""
ITERATIONS = 5
"""Iterations on each level."""
SMOOTHNESS = 3e-4
"""Weight of the smoothness term, in squared grey values per pixel: uniform regions follow their surroundings."""


@dataclass(frozen=True)
class SliceRegion:
    """A rectangle of a slice; computing only there saves time.

    Attributes:
        rows, columns: of the slice.
    """

    rows: slice
    columns: slice

    @classmethod
    def around(cls, masks: Bools, margin_mm: float, pixel_mm: tuple[float, float]) -> SliceRegion:
        """The bounding box of masks (K, H, W), not all empty, with a margin."""
        union: Bools = np.logical_or.reduce(masks)
        spans = []
        for axis, mm in ((1, pixel_mm[0]), (0, pixel_mm[1])):
            found = np.flatnonzero(np.logical_or.reduce(union, axis=axis))
            reach = int(np.ceil(margin_mm / mm))
            spans.append(slice(max(0, int(found[0]) - reach), int(found[-1]) + 1 + reach))
        return cls(spans[0], spans[1])

    def crop(self, planes: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The region of (…, H, W), as a view."""
        return planes[..., self.rows, self.columns]


def displacement(before: Floats, after: Floats, pixel_mm: tuple[float, float], most_mm: float) -> Floats:
    """For every pixel of `after`, where its tissue was in `before`.

    The method of Lucas and Kanade (IJCAI 1981), coarse to fine, with a smoothness term.

    Args:
        before, after: (H, W) in [0, 1], neighbouring slices.
        pixel_mm: mm between rows, and between columns.
        most_mm: limit of the displacement along rows and along columns.

    Returns:
        (2, H, W) row and column offsets, in pixels.
    """
    field = np.zeros((2, *before.shape), np.float32)
    for level_mm in LEVELS_MM:
        shape = tuple(min(n, max(4, round(n * mm / level_mm))) for n, mm in zip(before.shape, pixel_mm, strict=True))
        scale = np.array([n / m for n, m in zip(before.shape, shape, strict=True)], np.float32)[:, None, None]
        level_pixel_mm = scale[:, 0, 0].astype(np.float64) * pixel_mm
        small = [_resize(plane, shape) for plane in (before, after)]
        coarse = np.stack([_resize(plane, shape) for plane in field / scale])
        found = _improve_field(small[0], small[1], coarse, WINDOW_MM / level_pixel_mm, most_mm / level_pixel_mm)
        field = np.stack([_resize(plane, before.shape) for plane in found]) * scale
        if shape == before.shape:
            break
    return field


def _improve_field(before: Floats, after: Floats, field: Floats, window: Figures, most: Figures) -> Floats:
    """Improve `field` (2, H, W) on one level; `window` and `most`, the largest displacement, are in its pixels."""
    sigma = np.maximum(window, 2.0)
    limit = most.astype(np.float32)[:, None, None]
    for _ in range(ITERATIONS):
        warped = warp(before, field)
        rows, columns = np.gradient(warped)
        error = warped - after
        means = [
            ndimage.gaussian_filter(product, sigma)
            for product in (rows * rows, rows * columns, columns * columns, rows * error, columns * error)
        ]
        a, b, c = means[0] + SMOOTHNESS, means[1], means[2] + SMOOTHNESS
        # Least squares in each window: the step reduces the error, and draws the field towards its surroundings.
        around = [ndimage.gaussian_filter(plane, 2 * sigma) - plane for plane in field]
        down, across = SMOOTHNESS * around[0] - means[3], SMOOTHNESS * around[1] - means[4]
        step = np.stack([c * down - b * across, a * across - b * down]) / (a * c - b * b)
        field = (field + step).clip(-limit, limit).astype(np.float32)
    return field


def warp(plane: Floats, field: Floats) -> Floats:
    """Warp a plane (H, W) of the slice before to the slice after."""
    rows, columns = np.indices(plane.shape, dtype=np.float32)
    moved: Floats = ndimage.map_coordinates(plane, [rows + field[0], columns + field[1]], order=1, mode="nearest")
    return moved


def signed_distance(mask: Bools, pixel_mm: tuple[float, float], most: float) -> Floats:
    """Distance in mm to the border of a mask (H, W), positive inside, clipped to ±`most`; −`most` for an empty mask,
    `most` for a full one."""
    if mask.all() or not mask.any():  # no border to measure from
        return np.full(mask.shape, most if mask.all() else -most, dtype=np.float32)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"), sampling=pixel_mm)[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~mask, sampling=pixel_mm)
    half = float(np.mean(pixel_mm)) / 2  # the border lies between pixels
    signed: Floats = np.where(mask, inside - half, half - outside).clip(-most, most).astype(np.float32)
    return signed


def _resize(plane: Floats, shape: tuple[int, ...]) -> Floats:
    """(h, w) → (*shape), see `framing.resize`."""
    resized: Floats = resize(torch.from_numpy(np.ascontiguousarray(plane))[None], shape)[0].numpy()
    return resized
