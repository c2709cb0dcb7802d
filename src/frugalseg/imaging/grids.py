"""Bring a mask onto the grid of its scan: turned where its axes differ, never resampled."""

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
    """`mask` with the axes, the affine and the frame of `scan`; its voxels are a view.

    Axes in another order or direction are turned. Everything that is compared or computed voxel by voxel goes through
    here, so that one reorientation, that of the scan, holds for all arrays of a case.

    Args:
        mask: a mask, or any volume, that should lie on the grid of `scan`.
        scan: whose grid counts.
        case: for messages.
        what: what `mask` and `scan` are called in messages.
        cure: what to do where the grids differ.

    Raises:
        PairingError: the grids differ in shape, or a corner lies more than `volume.TOLERATED` of a voxel off.

    Warns:
        ScanWarning: a corner lies more than `volume.ROUNDING` of a voxel off.
    """
    turned = Reorientation.between(mask.affine, scan.affine).apply(mask)
    voxels, mm = scan.corner_offset(turned)
    if voxels > ROUNDING:
        told = f"{case}: {what[1]} and {what[0]} are on different grids: {', '.join(_differences(turned, scan))}"
        if np.isfinite(voxels):
            told += f"; up to {mm:.3g} mm ({voxels:.2g} voxels) apart"
        if voxels > TOLERATED:
            width = max(map(len, what))
            raise PairingError(
                f"{told}\n    {what[1]:{width}} {scan.describe_grid()}\n    {what[0]:{width}} {mask.describe_grid()}",
                cure,
            )
        warnings.warn(
            f"{told}. That is less than {TOLERATED:g} of a voxel: the {what[1]}'s grid is taken",
            ScanWarning,
            stacklevel=1,
        )
    return replace(turned, affine=scan.affine, placement=scan.placement)


def _differences(turned: Volume, scan: Volume) -> Iterator[str]:
    """What differs between two grids with their axes in one order, each as much as moves a corner beyond rounding."""
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
