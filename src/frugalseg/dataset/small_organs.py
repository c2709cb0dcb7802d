"""Organs that cover so few pixels at a store's size that a network can hardly learn them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from frugalseg.records.store import StoreRecord

FEWEST_PIXELS = 5
"""An organ that covers fewer pixels of a slice is easily lost when slices are resized."""
SIZE_STEP = 32
"""Proposed sizes are multiples of this: networks halve the slices up to five times."""
LARGEST_SIZE = 1024
"""Larger slices are not proposed: they need too much memory."""


@dataclass(frozen=True)
class SmallOrgan:
    """An organ that covers fewer than `FEWEST_PIXELS` pixels in a typical slice.

    Attributes:
        organ: its name.
        pixels: area in the median slice that shows it, in pixels of the store.
        size: smallest size of slices that gives it `FEWEST_PIXELS`; None where it is above `LARGEST_SIZE`.
    """

    organ: str
    pixels: float
    size: int | None

    def describe(self, size: int) -> str:
        """The sentence for a warning, `size` being that of the store."""
        cure = (
            f"prepare the scans with --size {self.size}"
            if self.size
            else f"even --size {LARGEST_SIZE} would not show it: prepare scans that are cropped around it"
        )
        return (
            f"{self.organ} covers only {_format_pixels(self.pixels)} of a typical slice at --size {size} and is easily "
            f"missed; {cure}"
        )


def _format_pixels(pixels: float) -> str:
    return "1 pixel" if round(pixels, 1) == 1 else f"{pixels:.1f} pixels"


def median_areas_mm2(voxels: npt.NDArray[np.int64], voxel_mm2: float) -> tuple[float, ...]:
    """Median area of each organ over the slices that show it, mm²; 0 where no slice does.

    Args:
        voxels: (Z, C) voxels of each organ in each slice of a scan.
        voxel_mm2: area of a voxel in the slice, mm².
    """
    shown = (column[column > 0] for column in voxels.T)
    return tuple(round(float(np.median(counts)) * voxel_mm2, 3) if len(counts) else 0.0 for counts in shown)


def find_small_organs(record: StoreRecord, cases: Collection[str] | None = None) -> list[SmallOrgan]:
    """The organs that cover too few pixels, from the areas that the masks have at the scans' own resolution.

    The area of an organ in a scan is the median over the slices that show it; that of the organ is the median over
    the scans. Areas are counted in voxels of the mask before resizing, so that they do not depend on which pixels
    happened to be hit. Scans of older stores have no areas and are not counted.

    Args:
        record: of the store.
        cases: the scans to count; by default all.
    """
    found = []
    for organ, typical in typical_pixels(record, cases).items():
        if typical < FEWEST_PIXELS:
            size = size_for(FEWEST_PIXELS, typical, record.parameters.size)
            found.append(SmallOrgan(organ, typical, size if size <= LARGEST_SIZE else None))
    return found


def typical_pixels(record: StoreRecord, cases: Collection[str] | None = None) -> dict[str, float]:
    """Organ → the pixels of the store that it covers in a typical slice; without organs of which no area is known.

    Arguments as in `find_small_organs`.
    """
    typical = {}
    for number, organ in enumerate(record.parameters.targets):
        pixels = [
            scan.areas_mm2[number] / (scan.row_mm * scan.column_mm)
            for scan in record.scans
            if scan.areas_mm2 is not UNSET and scan.areas_mm2[number] and (cases is None or scan.case in cases)
        ]
        if pixels:
            typical[organ] = float(np.median(pixels))
    return typical


def size_for(pixels: float, typical: float, size: int) -> int:
    """The smallest size, a multiple of `SIZE_STEP`, that gives `pixels` to what covers `typical` ones at `size`."""
    return round_up(size * math.sqrt(pixels / typical))


def round_up(size: float) -> int:
    """The next multiple of `SIZE_STEP`."""
    return SIZE_STEP * math.ceil(round(size / SIZE_STEP, 6))
