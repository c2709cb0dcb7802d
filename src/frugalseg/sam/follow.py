"""Where the anatomy of one slice is found in the next: a field of displacements, and masks that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

FINEST_MM = 1.0
"""Slices are looked at in pixels no smaller than this: finer detail moves no organ, and takes time."""
RADIUS_MM = 7.0
"""Half the side of the window whose pixels are taken to move together."""
BLUR = 1.0
"""Standard deviation in pixels with which both slices are smoothed first."""


@dataclass(frozen=True)
class Region:
    """A part of a slice; what is worked on, for speed.

    Attributes:
        rows, columns: of the slice.
    """

    rows: slice
    columns: slice

    @classmethod
    def around(cls, masks: Bools, margin_mm: float, pixel_mm: tuple[float, float]) -> Region:
        """The rectangle around masks (K, H, W), not all empty, with a margin."""
        there = masks.any(axis=0)
        spans = []
        for axis, mm in ((1, pixel_mm[0]), (0, pixel_mm[1])):
            found = np.flatnonzero(there.any(axis=axis))
            reach = int(np.ceil(margin_mm / mm))
            spans.append(slice(max(0, int(found[0]) - reach), int(found[-1]) + 1 + reach))
        return cls(spans[0], spans[1])

    def of(self, planes: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The part of (…, H, W); a view."""
        return planes[..., self.rows, self.columns]


def displacement(before: Floats, after: Floats, pixel_mm: tuple[float, float]) -> Floats:
    """For every pixel of `after`, where in `before` its tissue was.

    By iterative Lucas–Kanade on windows of `RADIUS_MM` (Le Besnerais and Champagnat, ICIP 2005; scikit-image).

    Args:
        before, after: (H, W) in [0, 1], neighbouring slices.
        pixel_mm: mm between rows, and between columns.

    Returns:
        (2, H, W) rows and columns to add, in pixels.
    """
    from skimage.registration import optical_flow_ilk

    if min(before.shape) < 4:
        return np.zeros((2, *before.shape), np.float32)
    zoom = tuple(min(1.0, mm / FINEST_MM) for mm in pixel_mm)
    small = [_zoomed(plane, zoom) for plane in (before, after)]
    coarse_mm = [mm * n / m for mm, n, m in zip(pixel_mm, before.shape, small[0].shape, strict=True)]
    blurred = [ndimage.gaussian_filter(plane, BLUR) for plane in small]
    radius = max(2, round(RADIUS_MM / float(np.mean(coarse_mm))))
    field = optical_flow_ilk(blurred[1], blurred[0], radius=radius, dtype=np.float32)
    scale = [n / m for n, m in zip(before.shape, small[0].shape, strict=True)]
    back = [_resized(plane, before.shape) * np.float32(s) for plane, s in zip(field, scale, strict=True)]
    return np.stack(back)


def follow(plane: Floats, field: Floats) -> Floats:
    """A plane (H, W) of the slice before, on the slice after."""
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
    signed = np.where(mask, np.minimum(inside, 1e6) - half, half - outside)
    return signed.clip(-most, most).astype(np.float32)


def _zoomed(plane: Floats, zoom: tuple[float, ...]) -> Floats:
    if min(zoom) >= 1:
        return plane
    return _resized(plane, tuple(max(4, round(n * z)) for n, z in zip(plane.shape, zoom, strict=True)))


def _resized(plane: Floats, shape: tuple[int, ...]) -> Floats:
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
