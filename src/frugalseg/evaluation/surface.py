"""Surfaces of masks, and the distances between them in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box around all true voxels, as slices; None for an empty mask."""
    box: list[slice] = [slice(None)] * mask.ndim
    # The axis with the largest stride first: the other axes then read only the part of the array that is left.
    for axis in sorted(range(mask.ndim), key=lambda a: -abs(mask.strides[a])):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        held = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if held.size == 0:
            return None
        box[axis] = slice(int(held[0]), int(held[-1]) + 1)
    return tuple(box)


def find_surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face neighbour outside it; beyond the array counts as outside.

    This is the mask minus its erosion with the 6-neighbourhood in 3D (4 in 2D), MONAI's definition of an edge.

    Args:
        mask: bool, any number of axes.

    Returns:
        bool, same shape.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        m, i = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        i[1:] &= m[:-1]
        i[:-1] &= m[1:]
        i[0] = i[-1] = False
    return mask & ~inner


def surface_points(mask: Mask, to_mm: Floats) -> Floats:
    """Centres of the surface voxels.

    Args:
        mask: bool, D axes.
        to_mm: (D, D) matrix, voxel index → mm (a 3D affine without its translation).

    Returns:
        (N, D) in mm.
    """
    points: Floats = np.argwhere(find_surface(mask)) @ to_mm.T
    return points


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from every surface voxel of one mask to the nearest one of the other.

    Surface voxels count equally; they are not weighted by the surface area that they represent.

    Attributes:
        from_reference: (N,), one per surface voxel of the reference.
        from_prediction: (M,), one per surface voxel of the prediction.
    """

    from_reference: Floats
    from_prediction: Floats

    @classmethod
    def between(cls, reference: Mask, prediction: Mask, to_mm: Floats, workers: int = -1) -> SurfaceDistances:
        """Measure between two masks that are both not empty.

        Args:
            reference: bool, D axes.
            prediction: bool, same shape.
            to_mm: (D, D), voxel index → mm; oblique and sheared grids are measured as they are.
            workers: threads of the search; -1 takes all cores.

        Raises:
            ValueError: a mask is empty; the empty-mask policy is the caller's.
        """
        a, b = surface_points(reference, to_mm), surface_points(prediction, to_mm)
        if not len(a) or not len(b):
            raise ValueError("surface distances need two masks that are not empty")
        return cls(_nearest_distances(a, b, workers), _nearest_distances(b, a, workers))

    def hausdorff(self, percentile: float = 100.0) -> float:
        """The larger of the two directed percentiles, mm; 100 is the Hausdorff distance, 95 is HD95."""
        return max(float(np.percentile(d, percentile)) for d in (self.from_reference, self.from_prediction))

    def average(self) -> float:
        """Average symmetric surface distance, mm: the mean over the points of both surfaces."""
        total = self.from_reference.sum() + self.from_prediction.sum()
        return float(total / (self.from_reference.size + self.from_prediction.size))

    def surface_dice(self, tolerance: float) -> float:
        """Share of the points of both surfaces within `tolerance` mm (inclusive) of the other surface."""
        near = sum(int(np.count_nonzero(d <= tolerance)) for d in (self.from_reference, self.from_prediction))
        return near / (self.from_reference.size + self.from_prediction.size)


def _nearest_distances(points: Floats, among: Floats, workers: int) -> Floats:
    # Surface voxels are spread evenly, so splitting at the midpoint is as good as at the median, and faster.
    tree = cKDTree(among, balanced_tree=False)
    distances: Floats = tree.query(points, workers=workers)[0]
    return distances


def image_diagonal(shape: tuple[int, ...], to_mm: Floats) -> float:
    """The longest diagonal of the image in mm, between outer corners: no distance in the image is longer."""
    signs = np.array(np.meshgrid(*[(-1, 1)] * len(shape))).reshape(len(shape), -1)
    return float(np.linalg.norm(to_mm @ (signs * np.array(shape)[:, None]), axis=0).max())
