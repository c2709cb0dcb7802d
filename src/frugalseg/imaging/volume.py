"""A scan: its voxels and their position in the patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.errors import ScanError

Array = npt.NDArray[Any]

CANONICAL = ("L", "P", "S")
"""Direction of the axes of every canonical volume: left, posterior, superior.

Axial slices then lie along the last axis, and `array[:, :, z].T` is the usual radiological view.
"""

ROUNDING = 0.01
"""Two grids are the same if no corner differs by more than this fraction of a voxel, since headers are rounded."""

TOLERATED = 0.1
"""A difference in position below this fraction of a voxel is accepted; a larger one is reported or refused."""

TIE = 1e-3
"""Two assignments of axes of an oblique scan are equally good if their sums of cosines differ by less than this."""


def format_shape(shape: Iterable[int]) -> str:
    """A shape for messages: 512×512×40."""
    return "×".join(map(str, shape))


def format_vector(values: Iterable[float], digits: int = 6) -> str:
    """Numbers in parentheses for messages, with so many significant digits: (0.8, 0.8, 2.5)."""
    return "(" + ", ".join(f"{value:.{digits}g}" for value in values) + ")"


@dataclass(frozen=True, eq=False)
class Placement:
    """What a header states about the position of a scan beyond the affine; its masks are written with the same.

    Attributes:
        fields: `nifti_placement.PLACEMENT_FIELDS` of a NIfTI header, as stored; empty for other formats.
        doubts: what is doubtful about it; each continues a sentence that begins with the name of the scan.
    """

    fields: Mapping[str, Array] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


LARGEST_MM = 1e7
"""Largest plausible voxel size or coordinate: 10 km."""

LEAST_VOLUME = 0.02
"""Smallest volume that the unit vectors of the axes must span: 1 for axes at 90°, 0.87 for a gantry tilt of 30°. For
axes within about 1° of one plane, their assignment to patient axes is undefined."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3D scan or mask.

    Attributes:
        array: voxels, shape (X, Y, Z), in the order of the file.
        affine: 4×4, voxel index → millimetres in RAS+ (nibabel's convention), possibly oblique or sheared.
        source: the file or folder it was read from, for messages.
        placement: what its header states about its position beyond the affine.
        padding: the value of voxels outside the field of view, if there are any.

    Raises:
        ScanError: the array is not 3D, or the affine is singular or not finite.
    """

    array: Array
    affine: npt.NDArray[np.float64]
    source: Path | None = None
    placement: Placement = field(default_factory=Placement)
    padding: float | None = None

    def __post_init__(self) -> None:
        name = self.source or "the volume"
        if self.array.ndim != 3:
            raise ScanError(
                f"{name} has {self.array.ndim} dimensions {self.array.shape}, expected one 3D volume",
                "give one 3D file per scan; split a 4D series into its volumes first",
            )
        if 0 in self.array.shape:
            raise ScanError(f"{name} is empty, shape {self.array.shape}", "export the scan again")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ScanError(f"{name} has an affine that is not a finite 4×4 matrix", "export the scan again")
        if np.abs(affine).max() > LARGEST_MM:
            raise ScanError(
                f"{name} has an affine with values up to {np.abs(affine).max():.3g} mm",
                "correct the header: spacing and origin must be in mm",
            )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if (spacing < 1e-6).any() or abs(np.linalg.det(affine[:3, :3] / spacing)) < LEAST_VOLUME:
            raise ScanError(
                f"{name} has zero spacing or parallel axes (spacing {self._axis_lengths(affine)})",
                "correct the header: spacing must be positive in mm on every axis",
            )
        object.__setattr__(self, "affine", affine)

    @staticmethod
    def _axis_lengths(affine: Array) -> tuple[float, float, float]:
        x, y, z = (float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each array axis."""
        return self._axis_lengths(self.affine)

    def with_array(self, array: Array) -> Volume:
        """A volume with these voxels on the same grid, without padding; `ValueError` if the shape differs."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit the grid {self.array.shape}")
        return replace(self, array=array, padding=None)

    def corner_offset(self, other: Volume) -> tuple[float, float]:
        """Largest distance between corresponding corners of the two grids, in voxels along the worst axis and in mm;
        infinite if the shapes differ."""
        if self.array.shape != other.array.shape:
            return np.inf, np.inf
        n = np.array(self.array.shape) - 1
        corners = np.array([(x, y, z, 1) for x in (0, n[0]) for y in (0, n[1]) for z in (0, n[2])], float)
        moved = (corners @ (other.affine - self.affine).T)[:, :3]
        voxels = moved @ np.linalg.inv(self.affine[:3, :3]).T
        return float(np.abs(voxels).max()), float(np.linalg.norm(moved, axis=1).max())

    def same_grid(self, other: Volume) -> bool:
        """Whether the shapes are equal and no corner differs by more than `ROUNDING` of a voxel."""
        return self.corner_offset(other)[0] <= ROUNDING

    def straighten(self) -> Volume:
        """The grid with right angles that keeps the slices.

        First voxel, spacing, first axis and the plane of the first two axes are kept; the third axis becomes
        perpendicular to it. For a gantry tilt this equals the grid that ITK reads from the DICOM files.
        """
        x, y, z = self.affine[:3, :3].T
        first = x / np.linalg.norm(x)
        second = y - (y @ first) * first
        second /= np.linalg.norm(second)
        third = np.cross(first, second)
        affine = self.affine.copy()
        affine[:3, :3] = np.stack([first, second, third * np.sign(third @ z)], axis=1) * self.spacing
        return replace(self, affine=affine, placement=Placement())

    def describe_grid(self) -> str:
        """Shape, spacing and axes in one line, for messages."""
        spacing = "×".join(f"{s:.6g}" for s in self.spacing)
        origin = format_vector(self.affine[:3, 3])
        return f"{format_shape(self.array.shape)} voxels of {spacing} mm, axes {self.axes}, origin {origin}"

    @property
    def axes(self) -> str:
        """Direction of the array axes, as three letters of R L A P S I."""
        return "".join(_orientations().ornt2axcodes(nearest_axes(self.affine)))


def _orientations() -> Any:
    """nibabel's functions; imported with the first scan, since it takes a tenth of a second."""
    from nibabel import orientations

    return orientations


def nearest_axes(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The patient axis and direction nearest to each array axis, as nibabel's orientation array (3, 2).

    The assignment with the largest sum of cosines. If several are equally good (an oblique scan at 45°, where rounding
    would decide), the one that keeps the order of the file, so that acquired slices remain slices.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    orders = list(permutations(range(3)))
    fits = [float(np.abs(cosines[order, range(3)]).sum()) for order in orders]
    best = next(order for order, fit in zip(orders, fits, strict=True) if fit >= max(fits) - TIE)
    return np.array([(axis, -1.0 if cosines[axis, i] < 0 else 1.0) for i, axis in enumerate(best)])


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips that bring an array to the canonical axes, and exactly back.

    Oblique and sheared affines are kept: axes are only permuted and flipped, never resampled.
    """

    ornt: npt.NDArray[np.float64]

    @classmethod
    def to_canonical(cls, affine: npt.NDArray[np.float64]) -> Reorientation:
        """The reorientation from the axes of `affine` to `CANONICAL`."""
        return cls(_orientations().ornt_transform(nearest_axes(affine), _orientations().axcodes2ornt(CANONICAL)))

    @classmethod
    def between(cls, affine: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> Reorientation:
        """The reorientation from the axes of `affine` to those of `wanted`."""
        return cls(nearest_axes(np.linalg.inv(wanted) @ affine))

    def apply(self, volume: Volume) -> Volume:
        """`volume` with its axes in canonical order; the voxels are a view."""
        array = _orientations().apply_orientation(volume.array, self.ornt)
        moved = volume.affine @ _orientations().inv_ornt_aff(self.ornt, volume.array.shape)
        return replace(volume, array=array, affine=moved, placement=Placement())

    def undo(self, array: Array) -> Array:
        """A canonical array back in the order of the file; a view."""
        back = np.empty_like(self.ornt)
        for axis, (target, flip) in enumerate(self.ornt):
            back[int(target)] = (axis, flip)
        result: Array = _orientations().apply_orientation(array, back)
        return result


def canonical(volume: Volume) -> tuple[Volume, Reorientation]:
    """`volume` with axes `CANONICAL`, and the reorientation, whose `undo` restores the order of the file."""
    reorientation = Reorientation.to_canonical(volume.affine)
    return reorientation.apply(volume), reorientation


def axial_slices(array: Array) -> Array:
    """A canonical array (X, Y, Z) as a stack of slices (Z, H, W) in radiological view; a view, its own inverse."""
    return array.transpose(2, 1, 0)


def middle_range(count: int, fraction: float) -> slice:
    """The middle `fraction` (0…1] of `count` slices, at least one, as used by `--middle-fraction`."""
    kept = max(1, round(count * fraction))
    first = (count - kept) // 2
    return slice(first, first + kept)
