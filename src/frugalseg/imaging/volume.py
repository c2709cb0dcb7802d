"""A scan: its voxels and where they lie in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.errors import ScanError

Array = npt.NDArray[Any]

CANONICAL = ("L", "P", "S")
"""Axes of every canonical volume: patient left, posterior, superior.

Axial slices then lie along the last axis, and `array[:, :, z].T` is the usual radiological view.
"""

ROUNDING = 0.01
"""Two grids are the same when no corner moves by more than this share of a voxel: headers round."""

TOLERATED = 0.1
"""A position that differs by less than this fraction of a voxel is accepted; more is reported, or refused."""

TIE = 1e-3
"""Two ways to name the axes of an oblique scan fit equally well when the cosines they rest on differ in sum by less."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What the header of a scan says of its place beyond the affine; its masks are written with the same.

    Attributes:
        fields: the fields of a NIfTI header that place it (`nifti_place.PLACE`), as stored; empty for other formats.
        doubts: what a person should know of the place; each continues the sentence that the scan's name begins.
    """

    fields: Mapping[str, Array] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


LARGEST_MM = 1e7
"""No voxel is 10 km long, or away."""

LEAST_VOLUME = 0.02
"""Volume that the axes' unit vectors must span; axes at 90° span 1, a gantry tilted by 30° 0.87. Of axes
within about 1° of one plane it is undefined which is which."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3D scan or mask.

    Attributes:
        array: voxels, shape (X, Y, Z), in the order of the file.
        affine: 4×4, voxel index → millimetres in RAS+ (nibabel's convention), possibly oblique or sheared.
        source: the file or folder it was read from, for messages.
        frame: what its header says of the place beyond the affine.
        padding: the value of voxels that stand for no measurement (outside the field of view), where there are any.

    Raises:
        ScanError: the array is not 3D, or the affine is singular or not finite.
    """

    array: Array
    affine: npt.NDArray[np.float64]
    source: Path | None = None
    frame: Frame = field(default_factory=Frame)
    padding: float | None = None

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
        """Other voxels on the same grid, without padding; raises `ValueError` if the shape differs."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit the grid {self.array.shape}")
        return replace(self, array=array, padding=None)

    def apart(self, other: Volume) -> tuple[float, float]:
        """How far the corners of `other` lie from ours, in voxels along the worst axis and in mm; infinite where the
        shapes differ."""
        if self.array.shape != other.array.shape:
            return np.inf, np.inf
        n = np.array(self.array.shape) - 1
        corners = np.array([(x, y, z, 1) for x in (0, n[0]) for y in (0, n[1]) for z in (0, n[2])], float)
        moved = (corners @ (other.affine - self.affine).T)[:, :3]
        voxels = moved @ np.linalg.inv(self.affine[:3, :3]).T
        return float(np.abs(voxels).max()), float(np.linalg.norm(moved, axis=1).max())

    def same_grid(self, other: Volume) -> bool:
        """Whether both have one shape and no corner lies more than `ROUNDING` of a voxel apart."""
        return self.apart(other)[0] <= ROUNDING

    def straightened(self) -> Volume:
        """The grid with right angles that keeps the slices.

        First voxel, spacing and first axis stay, the second axis stays in its plane, and the third is turned upright:
        of a tilted gantry, what ITK makes of the DICOM files.
        """
        x, y, z = self.affine[:3, :3].T
        first = x / np.linalg.norm(x)
        second = y - (y @ first) * first
        second /= np.linalg.norm(second)
        third = np.cross(first, second)
        affine = self.affine.copy()
        affine[:3, :3] = np.stack([first, second, third * np.sign(third @ z)], axis=1) * self.spacing
        return replace(self, affine=affine, frame=Frame())

    def describe_grid(self) -> str:
        """Shape, spacing and axes in one line, for messages."""
        spacing = "×".join(f"{s:.6g}" for s in self.spacing)
        origin = ", ".join(f"{o:.6g}" for o in self.affine[:3, 3])
        return f"{'×'.join(map(str, self.array.shape))} voxels of {spacing} mm, axes {self.axes}, origin ({origin})"

    @property
    def axes(self) -> str:
        """Where the array axes run to, as three letters of R L A P S I."""
        return "".join(_orientations().ornt2axcodes(nearest_axes(self.affine)))


def _orientations() -> Any:
    """nibabel's functions; imported with the first scan, since it takes a tenth of a second."""
    from nibabel import orientations

    return orientations


def nearest_axes(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Which axis of the patient each array axis runs along, and in which sense, as nibabel's orientation array (3, 2).

    The assignment with the greatest sum of cosines. Of those that fit equally well (an oblique scan at 45°, where
    rounding would decide) it is the one that keeps the order of the file, so that acquired slices stay slices.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    ways = list(permutations(range(3)))
    fits = [float(np.abs(cosines[way, range(3)]).sum()) for way in ways]
    way = next(way for way, fit in zip(ways, fits, strict=True) if fit >= max(fits) - TIE)
    return np.array([(axis, -1.0 if cosines[axis, i] < 0 else 1.0) for i, axis in enumerate(way)])


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips that bring an array to the canonical axes, and exactly back.

    Oblique and sheared affines are kept: axes are only re-ordered and turned around, never resampled.
    """

    ornt: npt.NDArray[np.float64]

    @classmethod
    def to_canonical(cls, affine: npt.NDArray[np.float64]) -> Reorientation:
        """The way from the axes of `affine` to `CANONICAL`."""
        return cls(_orientations().ornt_transform(nearest_axes(affine), _orientations().axcodes2ornt(CANONICAL)))

    @classmethod
    def between(cls, affine: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> Reorientation:
        """The way from the axes of `affine` to those of `wanted`."""
        return cls(nearest_axes(np.linalg.inv(wanted) @ affine))

    def apply(self, volume: Volume) -> Volume:
        """`volume` with its axes in canonical order; the voxels are a view."""
        array = _orientations().apply_orientation(volume.array, self.ornt)
        moved = volume.affine @ _orientations().inv_ornt_aff(self.ornt, volume.array.shape)
        return replace(volume, array=array, affine=moved, frame=Frame())

    def undo(self, array: Array) -> Array:
        """A canonical array back in the order of the file; a view."""
        back = np.empty_like(self.ornt)
        for axis, (target, flip) in enumerate(self.ornt):
            back[int(target)] = (axis, flip)
        result: Array = _orientations().apply_orientation(array, back)
        return result


def canonical(volume: Volume) -> tuple[Volume, Reorientation]:
    """`volume` with axes `CANONICAL`, and its inverse: `way.undo(canonical.array)` is `volume.array`."""
    way = Reorientation.to_canonical(volume.affine)
    return way.apply(volume), way


def axial_slices(array: Array) -> Array:
    """A canonical array (X, Y, Z) as a stack of slices (Z, H, W) in radiological view; a view, its own inverse."""
    return array.transpose(2, 1, 0)


def middle_slices(count: int, fraction: float) -> slice:
    """The middle `fraction` (0…1] of `count` slices, at least one; those that `--middle-fraction` trains on."""
    kept = max(1, round(count * fraction))
    first = (count - kept) // 2
    return slice(first, first + kept)
