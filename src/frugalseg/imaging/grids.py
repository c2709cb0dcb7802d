"""Bring a mask onto the grid of its scan: its axes are permuted and flipped, never resampled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from frugalseg.errors import PairingError
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import ROUNDING, TOLERATED, Array, Reorientation, Volume, format_shape, format_vector

RESAMPLE = "resample the labels to the image with nearest neighbour, or give the image that was annotated"


def onto_grid(
    mask: Volume, scan: Volume, case: str, what: tuple[str, str] = ("labels", "image"), cure: str = RESAMPLE
) -> Volume:
    """`mask` with the axes, the affine and the placement of `scan`; its voxels are a view.

    Axes in another order or direction are permuted and flipped. All volumes that are compared voxel by voxel pass
    through here, so that the reorientation of the scan applies to all arrays of a case.

    Args:
        mask: a mask, or any volume, that should lie on the grid of `scan`.
        scan: defines the grid.
        case: for messages.
        what: names of `mask` and `scan` in messages.
        cure: what to do if the grids differ, for messages.

    Raises:
        PairingError: the shapes differ, or a corner is off by more than `volume.TOLERATED` of a voxel.

    Warns:
        ScanWarning: a corner is off by more than `volume.ROUNDING` of a voxel.
    """
    turned = Reorientation.between(mask.affine, scan.affine).apply(mask)
    voxels, mm = scan.corner_offset(turned)
    if voxels > ROUNDING:
        problem = f"{case}: {what[1]} and {what[0]} are on different grids: {', '.join(_differences(turned, scan))}"
        if np.isfinite(voxels):
            problem += f"; corners differ by up to {mm:.3g} mm ({voxels:.2g} voxels)"
        if voxels > TOLERATED:
            width = max(map(len, what))
            raise PairingError(
                f"{problem}\n    {what[1]:{width}} {scan.describe_grid()}\n"
                f"    {what[0]:{width}} {mask.describe_grid()}",
                cure,
            )
        warnings.warn(
            f"{problem}. That is less than {TOLERATED:g} of a voxel: the grid of the {what[1]} is used",
            ScanWarning,
            stacklevel=1,
        )
    return replace(turned, affine=scan.affine, placement=scan.placement)


def _differences(turned: Volume, scan: Volume) -> Iterator[str]:
    """What differs between two grids with the same order of axes, as far as it moves a corner beyond rounding."""
    if turned.array.shape != scan.array.shape:
        shapes = f"{format_shape(turned.array.shape)} instead of {format_shape(scan.array.shape)}"
        yield f"{shapes} voxels (in the same order of axes)"
    mm, length = np.array(scan.spacing), np.array(scan.array.shape)
    spacing = np.subtract(turned.spacing, scan.spacing)
    if (np.abs(spacing) * length > ROUNDING / 2 * mm).any():
        yield f"spacing by {_format_mm(spacing)}"
    directions = turned.affine[:3, :3] / turned.spacing - scan.affine[:3, :3] / scan.spacing
    chords = np.linalg.norm(directions, axis=0)
    if (chords * length * mm > ROUNDING / 2 * mm.min()).any():
        yield f"directions by {np.rad2deg(2 * np.arcsin(min(1.0, chords.max() / 2))):.2g}°"
    origin = turned.affine[:3, 3] - scan.affine[:3, 3]
    if np.linalg.norm(origin) > ROUNDING / 2 * mm.min():
        yield f"first voxel by {_format_mm(origin)}"


def _format_mm(values: Array) -> str:
    """A difference in mm, rounded to a nanometre so that none is −0."""
    return f"{format_vector(values.round(6) + 0.0, digits=3)} mm"
