"""What a mask says of an organ: part of predictions.json, and of statistics.json."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OrganStatistics:
    """Size and intensity of one organ as its mask shows it.

    Attributes:
        voxels: their number.
        volume_ml: in millilitres.
        mean, sd: of the scan's intensities within the mask, HU for CT; None for an empty mask.
        extent_mm: size of the bounding box along the scan's axes that are nearest to left–right, front–back and
            head–feet, in mm; zeros for an empty mask.
        slices: number of axial slices that show it.
    """

    voxels: int
    volume_ml: float
    mean: float | None
    sd: float | None
    extent_mm: tuple[float, float, float]
    slices: int
