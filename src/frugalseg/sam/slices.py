"""A scan as the models of this room see it: axial slices in radiological view, windowed to [0, 1] one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from frugalseg.errors import ScanError
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Array, Reorientation, Volume, axial_slices, canonical

SMALLEST = 8
"""Least rows and columns of a slice; under that a box prompt says nothing."""


@dataclass(frozen=True, eq=False)
class ScanSlices:
    """The slices of one scan; floating-point numbers are made only of those asked for.

    Attributes:
        volume: the scan in canonical axes.
        way: from the axes of its file to those.
        limits: intensities shown as 0 and 1.
    """

    volume: Volume
    way: Reorientation
    limits: tuple[float, float]
    intensity: IntensityScale

    @classmethod
    def of(cls, scan: Volume, intensity: IntensityScale) -> ScanSlices:
        """The slices of `scan`; raises `ScanError` where they are only a few pixels wide."""
        upright, way = canonical(scan)
        if min(upright.array.shape[:2]) < SMALLEST:
            raise ScanError(
                f"{scan.source or 'the scan'} has axial slices of {upright.array.shape[1]}×{upright.array.shape[0]} "
                f"pixels, at least {SMALLEST}×{SMALLEST} are needed",
                "check the orientation in its header; slices are taken across the body's long axis",
            )
        return cls(upright, way, intensity.fit(upright.array, upright.padding), intensity)

    def __len__(self) -> int:
        return int(self.volume.array.shape[2])

    def __call__(self, z: int) -> Tensor:
        """Slice `z`, counted from 0 at the inferior end: (H, W) float32 in [0, 1]."""
        plane = axial_slices(self.volume.array)[z]
        return torch.from_numpy(self.intensity.apply(plane, self.limits, self.volume.padding))

    @property
    def shape(self) -> tuple[int, int]:
        """H, W of a slice."""
        width, height = self.volume.array.shape[:2]
        return height, width

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Mm between rows, mm between columns."""
        return self.volume.spacing[1], self.volume.spacing[0]

    @property
    def thickness_mm(self) -> float:
        """Mm between slices."""
        return self.volume.spacing[2]

    @cached_property
    def fingerprint(self) -> str:
        """The scan's identity (see `imaging.fingerprint`)."""
        return fingerprint(self.volume)

    def stack(self, mask: Volume) -> Array:
        """A mask on the scan's grid as slices (Z, H, W), a view."""
        return axial_slices(self.way.apply(mask).array)

    def unstack(self, slices: Array) -> Array:
        """Slices (Z, H, W) as an array in the axes of the scan's file."""
        return self.way.undo(axial_slices(slices))
