"""A scan: its voxels and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from frugalseg.errors import ScanError

Array = npt.NDArray[Any]

CANONICAL = ("L", "P", "S")
"""Axes of every canonical volume: patient left, posterior, superior.

Axial slices then lie along the last axis, and `array[:, :, z].T` is the usual radiological view.
"""

AFFINE_TOLERANCE_MM = 1e-2
"""Two grids are the same when no corner moves by more than this."""


LARGEST_MM = 1e7
"""No voxel is 10 km long, or away."""

LEAST_VOLUME = 0.02
"""Volume that the axes' unit vectors must span; axes that meet at 90° span 1, a gantry tilted by 30° 0.87. Of axes
within about 1° of one plane nobody can say which is which."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3D scan or mask.

    Attributes:
        array: voxels, shape (X, Y, Z), in the order of the file.
        affine: 4×4, voxel index → millimetres in RAS+ (nibabel's convention), possibly oblique or sheared.
        source: the file or folder it was read from, for messages.

    Raises:
        ScanError: the array is not 3D, or the affine is singular or not finite.
    """

    array: Array
    affine: npt.NDArray[np.float64]
    source: Path | None = None

    def __post_init__(self) -> None:
        name = self.source or "the volume"
        if self.array.ndim != 3:
            raise ScanError(
                f"{name} has {self.array.ndim} dimensions {self.array.shape}, expected one 3D volume",
                "give one file per scan, with three axes; split a 4D series into its volumes first",
            )
        if 0 in self.array.shape:
            raise ScanError(f"{name} is empty, shape {self.array.shape}", "export the scan again")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ScanError(f"{name} has an affine that is not a finite 4×4 matrix", "export the scan again")
        if np.abs(affine).max() > LARGEST_MM:
            raise ScanError(
                f"{name} has an affine with numbers up to {np.abs(affine).max():.3g} mm",
                "correct the header: spacing and origin must be in mm",
            )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if (spacing < 1e-6).any() or abs(np.linalg.det(affine[:3, :3] / spacing)) < LEAST_VOLUME:
            raise ScanError(
                f"{name} has zero spacing or parallel axes (spacing {self._norms(affine)})",
                "correct the header: spacing must be positive in mm on every axis",
            )
        object.__setattr__(self, "affine", affine)

    @staticmethod
    def _norms(affine: Array) -> tuple[float, float, float]:
        x, y, z = (float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each array axis."""
        return self._norms(self.affine)

    def with_array(self, array: Array) -> Volume:
        """Other voxels on the same grid; raises `ValueError` if the shape differs."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit the grid {self.array.shape}")
        return replace(self, array=array)

    def same_grid(self, other: Volume) -> bool:
        """Whether both have one shape and no corner lies more than `AFFINE_TOLERANCE_MM` apart."""
        if self.array.shape != other.array.shape:
            return False
        n = np.array(self.array.shape) - 1
        corners = np.array([(x, y, z, 1) for x in (0, n[0]) for y in (0, n[1]) for z in (0, n[2])], float)
        apart = np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1)
        return bool(apart.max() <= AFFINE_TOLERANCE_MM)

    def describe_grid(self) -> str:
        """Shape, spacing and axes in one line, for messages."""
        spacing = "×".join(f"{s:.3g}" for s in self.spacing)
        origin = ", ".join(f"{o:.1f}" for o in self.affine[:3, 3])
        axes = "".join(nib.aff2axcodes(self.affine))
        return f"{'×'.join(map(str, self.array.shape))} voxels of {spacing} mm, axes {axes}, origin ({origin})"


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips that bring an array to the canonical axes, and exactly back.

    Oblique and sheared affines are kept: axes are only re-ordered and turned around, never resampled.
    """

    ornt: npt.NDArray[np.float64]

    @classmethod
    def to_canonical(cls, affine: npt.NDArray[np.float64]) -> Reorientation:
        """The way from the axes of `affine` to `CANONICAL`."""
        here = nib.orientations.io_orientation(affine)
        return cls(nib.orientations.ornt_transform(here, nib.orientations.axcodes2ornt(CANONICAL)))

    def apply(self, volume: Volume) -> Volume:
        """`volume` with its axes in canonical order; the voxels are a view."""
        array = nib.orientations.apply_orientation(volume.array, self.ornt)
        moved = volume.affine @ nib.orientations.inv_ornt_aff(self.ornt, volume.array.shape)
        return replace(volume, array=array, affine=moved)

    def undo(self, array: Array) -> Array:
        """A canonical array back in the order of the file; a view."""
        back = np.empty_like(self.ornt)
        for axis, (target, flip) in enumerate(self.ornt):
            back[int(target)] = (axis, flip)
        result: Array = nib.orientations.apply_orientation(array, back)
        return result


def canonical(volume: Volume) -> tuple[Volume, Reorientation]:
    """`volume` with axes `CANONICAL`, and the way back: `way.undo(canonical.array)` is `volume.array`."""
    way = Reorientation.to_canonical(volume.affine)
    return way.apply(volume), way


def axial_slices(array: Array) -> Array:
    """A canonical array (X, Y, Z) as a stack of slices (Z, H, W) in radiological view; a view, its own inverse."""
    return array.transpose(2, 1, 0)
