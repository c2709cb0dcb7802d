"""The grid on which a phantom is painted, and solids with soft edges given by their signed distance in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from frugalseg.imaging.volume import Array

Point = tuple[float, float, float]
Vector = Sequence[float] | Array
"""Three numbers, one per body axis: a position or semi-axes, mm."""

AIR_HU = -1000.0
GRAIN_NODES = 16
"""Nodes per axis of the random lattice of `CanvasRegion.grain`; its period is longer than any organ."""

BLUR_MM = 1.2
"""Blur of the scanner, in addition to the voxel size."""


@dataclass(frozen=True)
class Wave:
    """A standing wave over the field of view, the component of all smooth deformations.

    Attributes:
        amplitude: height in mm.
        wavelength: mm along each scanner axis.
        phase: radians along each scanner axis.
    """

    amplitude: float
    wavelength: Point
    phase: Point

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude: float, wavelength: tuple[float, float]) -> Wave:
        """A wave of `amplitude` mm whose wavelengths are drawn from the range `wavelength` (mm)."""
        length, phase = rng.uniform(*wavelength, 3), rng.uniform(0, 2 * np.pi, 3)
        return cls(amplitude, as_point(length), as_point(phase))

    def sample(self, axes: Sequence[Array]) -> Array:
        """Values of the wave in mm on a grid given by three one-dimensional axes (mm)."""
        x, y, z = (
            np.sin(axis * np.float32(2 * np.pi / length) + np.float32(phase))
            for axis, length, phase in zip(axes, self.wavelength, self.phase, strict=True)
        )
        product: Array = (np.float32(self.amplitude) * x)[:, None, None] * y[:, None] * z
        return product


@dataclass(frozen=True)
class Pose:
    """How a body lies in the scanner: scanner mm → body mm.

    Attributes:
        rotation: 3×3, scanner axes → body axes.
        shift: position of the body's origin in the scanner, mm.
        scale: size of this body relative to the reference anatomy, per body axis.
        bends: for each body axis, the waves that deform it.
    """

    rotation: Array
    shift: Array
    scale: Array
    bends: tuple[tuple[Wave, ...], ...]

    def body_coordinates(self, axes: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Reference-anatomy x, y, z in mm (left, posterior, superior) of every voxel of a scanner grid."""
        centred = [axis - np.float32(s) for axis, s in zip(axes, self.shift, strict=True)]
        x, y, z = (self._body_coordinate(body_axis, centred, axes) for body_axis in range(3))
        return x, y, z

    def _body_coordinate(self, body_axis: int, centred: list[Array], axes: Sequence[Array]) -> Array:
        rx, ry, rz = (self.rotation[body_axis] / self.scale[body_axis]).astype(np.float32)
        place: Array = (rx * centred[0])[:, None, None] + (ry * centred[1])[:, None] + rz * centred[2]
        for wave in self.bends[body_axis]:
            place += wave.sample(axes)
        return place

    def scanner_box(self, centre: Array, reach: Array) -> tuple[Array, Array]:
        """Lowest and highest corner, in the scanner, of a box in body axes, bends included."""
        back = self.rotation.T
        middle = back @ (centre * self.scale) + self.shift
        bend = max(sum(wave.amplitude for wave in waves) for waves in self.bends) * self.scale.max()
        half = np.abs(back) @ (reach * self.scale) + bend
        return middle - half, middle + half


@dataclass(frozen=True)
class CanvasRegion:
    """A box of the canvas.

    Attributes:
        box: its slices of the canvas arrays.
        axes: its three scanner axes, mm; gravity acts along the second.
        x: body coordinate towards patient left, mm.
        y: body coordinate towards posterior, mm.
        z: body coordinate towards superior, mm.
    """

    box: tuple[slice, slice, slice]
    axes: tuple[Array, Array, Array]
    x: Array
    y: Array
    z: Array

    def ripple(self, waves: Sequence[Wave]) -> Array:
        """The sum of `waves` over this box, mm, which makes a surface uneven."""
        total: Array = sum((wave.sample(self.axes) for wave in waves), np.zeros((), np.float32))
        return total

    def grain(self, rng: np.random.Generator, size: float) -> Array:
        """Irregular texture with grains of about `size` mm, standard deviation near 0.6, independent of the grid."""
        lattice = rng.standard_normal((GRAIN_NODES,) * 3).astype(np.float32)
        wx, wy, wz = (_node_weights(axis, size) for axis in self.axes)
        mottled: Array = (wy @ np.tensordot(wx, lattice, 1)) @ wz.T
        return mottled


class Canvas:
    """A stack of slices to paint a body on.

    Args:
        axes: scanner coordinates of the voxel centres, mm, along left, posterior, superior.
        pose: how the body lies in the scanner.
        blur: width of the transition between two tissues, mm.

    Attributes:
        hu: noise-free Hounsfield units.
        tissue: number of the tissue that fills more than half of each voxel.
    """

    def __init__(self, axes: Sequence[Array], pose: Pose, blur: float) -> None:
        ax, ay, az = axes
        self.axes = (ax, ay, az)
        self.pose = pose
        self.blur = np.float32(blur)
        shape = (ax.size, ay.size, az.size)
        self.hu: Array = np.full(shape, AIR_HU, np.float32)
        self.tissue: Array = np.zeros(shape, np.uint8)
        self._body = pose.body_coordinates(axes)

    def whole_region(self) -> CanvasRegion:
        """The whole canvas as one region."""
        box = (slice(None), slice(None), slice(None))
        return CanvasRegion(box, self.axes, *self._body)

    def region_around(self, centre: Vector, reach: Vector) -> CanvasRegion:
        """The box that contains everything within `reach` mm of `centre` (body axes, mm); it may be empty."""
        low, high = self.pose.scanner_box(np.asarray(centre, float), np.asarray(reach, float))
        box = tuple(
            slice(*np.searchsorted(axis, (a - self.blur, b + self.blur)))
            for axis, a, b in zip(self.axes, low, high, strict=True)
        )
        bx, by, bz = box
        ax, ay, az = self.axes
        x, y, z = (coordinate[bx, by, bz] for coordinate in self._body)
        return CanvasRegion((bx, by, bz), (ax[bx], ay[by], az[bz]), x, y, z)

    def paint(self, region: CanvasRegion, distance: Array, hu: float | Array, tissue: int | None = None) -> None:
        """Fill a solid, mixing tissues in the voxels that its surface crosses.

        Args:
            region: where `distance` was computed.
            distance: signed distance to the surface in mm, negative inside.
            hu: Hounsfield units, one value or one per voxel of the region.
            tissue: its number; None keeps the present numbers (vessels within an organ).
        """
        share = distance * (-1 / self.blur)
        share += np.float32(0.5)
        np.clip(share, 0, 1, out=share)
        below = self.hu[region.box]
        share *= np.subtract(hu, below, dtype=np.float32)
        below += share
        if tissue is not None:
            self.tissue[region.box][distance < 0] = tissue

    def is_tissue(self, region: CanvasRegion, tissue: int) -> Array:
        """Mask of the voxels of `region` that are filled with a tissue."""
        mask: Array = self.tissue[region.box] == tissue
        return mask


def rotation_matrix(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Array:
    """Rotation matrix about the three body axes, degrees."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad([x_deg, y_deg, z_deg])), np.sin(np.deg2rad([x_deg, y_deg, z_deg]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    product: Array = about_z @ about_y @ about_x
    return product


def ellipsoid(region: CanvasRegion, centre: Vector, semi: Vector, tilt: Array | None = None) -> Array:
    """Signed distance (mm) to an ellipsoid with semi-axes `semi` (mm), rotated by `tilt`."""
    x, y, z = (c - np.float32(m) for c, m in zip((region.x, region.y, region.z), centre, strict=True))
    if tilt is not None:
        t = tilt.astype(np.float32)
        x, y, z = (t[0, i] * x + t[1, i] * y + t[2, i] * z for i in range(3))
    a, b, c = (np.float32(1 / s) for s in semi)
    x, y, z = x * a, y * b, z * c
    squared = x * x + y * y + z * z
    slope = np.square(x * a) + np.square(y * b) + np.square(z * c)
    return _radial_distance(squared, slope)


def _node_weights(axis: Array, size: float) -> Array:
    """Interpolation weight of each lattice node at each position on an axis (mm)."""
    place = axis / np.float32(size)
    low = np.floor(place).astype(int)
    t = place - low
    t = t * t * (3 - 2 * t)
    weights = np.zeros((axis.size, GRAIN_NODES), np.float32)
    rows = np.arange(axis.size)
    weights[rows, low % GRAIN_NODES] = 1 - t
    weights[rows, (low + 1) % GRAIN_NODES] = t
    return weights


def column(region: CanvasRegion, centre: Sequence[float | Array], semi: Sequence[float | Array]) -> Array:
    """Signed in-plane distance (mm) to an elliptic column along z; centre and semi-axes may vary by slice."""
    x, y = (region.x - np.float32(centre[0])) / semi[0], (region.y - np.float32(centre[1])) / semi[1]
    squared = x * x + y * y
    slope = np.square(x / semi[0]) + np.square(y / semi[1])
    return _radial_distance(squared, slope)


def rounded_column(region: CanvasRegion, middle_y: float, semi: Sequence[float | Array], squareness: float) -> Array:
    """Signed in-plane distance (mm) to a column whose outline is an ellipse (`squareness` 0) to a rounded box (1)."""
    x, y = region.x / semi[0], (region.y - np.float32(middle_y)) / semi[1]
    xx, yy, mixed = x * x, y * y, np.float32(2 - 2 * squareness)
    fourth = xx * xx + yy * yy + mixed * xx * yy
    slope = np.square(x * (2 * xx + mixed * yy) / semi[0]) + np.square(y * (2 * yy + mixed * xx) / semi[1])
    squared = np.sqrt(fourth)
    radius = np.sqrt(squared)
    distance: Array = 2 * squared * (squared - radius) / np.sqrt(slope + np.float32(1e-15))
    return distance


def _radial_distance(squared: Array, slope: Array) -> Array:
    radius = np.sqrt(squared)
    distance: Array = (squared - radius) / np.sqrt(slope + np.float32(1e-9))
    return distance


def tube(region: CanvasRegion, path: Sequence[Point], radius: float | Array) -> Array:
    """Signed distance (mm) to a round tube along a polyline."""
    nearest: Array | None = None
    for start, stop in pairwise(path):
        squared = _squared_distance_to_line(region, np.asarray(start, np.float32), np.asarray(stop, np.float32))
        nearest = squared if nearest is None else np.minimum(nearest, squared)
    assert nearest is not None
    distance: Array = np.sqrt(nearest) - np.asarray(radius, np.float32)
    return distance


def _squared_distance_to_line(region: CanvasRegion, start: Array, stop: Array) -> Array:
    x, y, z = region.x - start[0], region.y - start[1], region.z - start[2]
    d = stop - start
    along = np.clip((x * d[0] + y * d[1] + z * d[2]) / (d @ d), 0, 1)
    x -= along * d[0]
    y -= along * d[1]
    z -= along * d[2]
    squared: Array = x * x + y * y + z * z
    return squared


def blend_union(a: Array, b: Array, width: float) -> Array:
    """Union of two solids with a fillet of `width` mm where they meet."""
    fillet = np.maximum(np.float32(width) - np.abs(a - b), 0)
    union: Array = np.minimum(a, b) - fillet * fillet * np.float32(0.25 / width)
    return union


def blend_intersection(a: Array, b: Array, width: float) -> Array:
    """Intersection of two solids, its edge rounded over `width` mm; with −b as second solid, a without b."""
    return -blend_union(-a, -b, width)


def as_point(values: Array) -> Point:
    """Three numbers as a point."""
    x, y, z = (float(v) for v in values)
    return x, y, z
