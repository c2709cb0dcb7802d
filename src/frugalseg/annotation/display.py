"""A scan as the page shows it: axial slices in radiological view, and exactly back to the grid of its file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.imaging.intensity import looks_like_hu
from frugalseg.imaging.mapped import sample_planes
from frugalseg.imaging.modality import ModalityKind, guess_modality, read_declared_modality
from frugalseg.imaging.volume import Array, Reorientation, Volume, axial_slices, canonical

Mask = npt.NDArray[np.uint8]
"""One slice of a mask, (rows, columns) label values."""

_INT16 = np.iinfo(np.int16)
MOST_IN_MEMORY = 1 << 28
"""Largest mask in bytes that is put together in memory."""
_WINDOWS = {
    "abdomen": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
}
"""Name → HU shown as black and white."""
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """Values shown as black and white."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class PictureScale:
    """How values become 16-bit integers: value = stored × slope + intercept."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, sample: Array) -> PictureScale:
        """Without loss for integers of 16 bits; HU rounded to 1; others over the range of the sample."""
        if sample.dtype.kind in "iu" and sample.dtype.itemsize <= 2:
            return cls(1.0, 32768.0 if sample.dtype == np.uint16 else 0.0)
        low, high = float(sample.min()), float(sample.max())
        if _INT16.min <= low and high <= _INT16.max and (sample.dtype.kind != "f" or looks_like_hu(sample)):
            return cls(1.0, 0.0)
        return cls(max(high - low, 1e-6) / 65534, (low + high) / 2)

    def apply(self, plane: Array) -> npt.NDArray[np.int16]:
        """Values as stored integers, little-endian, contiguous; values outside the range are clipped."""
        if self == PictureScale(1.0, 0.0) and plane.dtype.kind in "iu" and plane.dtype != np.uint16:
            return np.ascontiguousarray(plane.clip(_INT16.min, _INT16.max), dtype="<i2")
        scaled = (plane.astype(np.float64) - self.intercept) / self.slope
        return np.ascontiguousarray(scaled.round().clip(_INT16.min, _INT16.max), dtype="<i2")


@dataclass(frozen=True, eq=False)
class Display:
    """An opened scan.

    Attributes:
        volume: in the axes of its file; the voxels may be mapped from a file.
        upright: the same in canonical axes (left, posterior, superior).
        way: from the axes of the file to canonical axes, by flips and permutations only.
        scale: of the pictures.
        windows: the first is shown at first.
        limits: lowest and highest value, as sampled.
        kind: "ct" or "mr", as its files or its values say; None where they do not.
    """

    volume: Volume
    upright: Volume
    way: Reorientation
    scale: PictureScale
    windows: tuple[Window, ...]
    limits: tuple[float, float]
    kind: ModalityKind | None

    @classmethod
    def of(cls, volume: Volume, path: Path) -> Display:
        """The display of a scan; `path` may declare its modality."""
        upright, way = canonical(volume)
        sample = sample_planes(volume).array
        limits = float(sample.min()), float(sample.max())
        kind = (read_declared_modality(path) or guess_modality(sample)).kind
        windows = tuple(_list_windows(sample, kind, limits))
        return cls(volume, upright, way, PictureScale.fit(sample), windows, limits, kind)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        x, y, z = self.upright.array.shape
        return x, y, z

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return self.shape[1], self.shape[0]

    @cached_property
    def _slices(self) -> Array:
        return axial_slices(self.upright.array)

    def picture(self, z: int) -> npt.NDArray[np.int16]:
        """Slice `z`, counted from 0 at the inferior end, (rows, columns)."""
        return self.scale.apply(self._slices[z])

    def mask_volume(self, slices: Iterable[tuple[int, Mask]]) -> Volume:
        """A mask in the grid of the file, of the slices that are given; 0 elsewhere."""
        stack = _allocate(self._slices.shape)
        for z, mask in slices:
            stack[z] = mask
        return self.volume.with_array(self.way.undo(axial_slices(stack)))

    def mask_slices(self, mask: Volume) -> Array:
        """A mask on the grid of the file as slices (Z, rows, columns)."""
        return axial_slices(self.way.apply(mask).array)

    def stream_nifti(self, planes: Iterable[Array], dtype: str, scaled: bool) -> Iterator[bytes]:
        """An uncompressed NIfTI file in display order, slice by slice."""
        yield self._nifti_header(dtype, scaled)
        for plane in planes:
            yield plane.tobytes()

    def _nifti_header(self, dtype: str, scaled: bool) -> bytes:
        import nibabel as nib

        header = nib.Nifti1Header(endianness="<")
        header.set_data_dtype(dtype)
        header.set_data_shape(self.shape)
        header.set_xyzt_units("mm")
        header.set_sform(self.upright.affine, code=1)
        header.set_qform(self.upright.straighten().affine, code=1)
        header["magic"], header["vox_offset"] = b"n+1", 352
        slope, inter = (self.scale.slope, self.scale.intercept) if scaled else (1.0, 0.0)
        header["scl_slope"], header["scl_inter"] = slope, inter
        return bytes(header.binaryblock) + bytes(4)


def _allocate(shape: tuple[int, ...]) -> Mask:
    """Zeros in memory, or in a temporary file where there are many: the mask of a scan of 4 GB has 2 GB."""
    if math.prod(shape) <= MOST_IN_MEMORY:
        return np.zeros(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        file.truncate(math.prod(shape))
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _list_windows(sample: Array, kind: str | None, limits: tuple[float, float]) -> Iterator[Window]:
    if kind == "ct":
        yield from (Window(name, *shown) for name, shown in _WINDOWS.items())
    else:
        low, high = (float(value) for value in np.percentile(sample, _PERCENTILES))
        if low < high:
            yield Window("contrast", low, high)
    yield Window("whole range", limits[0], max(limits[1], limits[0] + 1))
