"""Where the header of a NIfTI file places its scan: unit of length, qform, sform, and what is doubtful in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from frugalseg.errors import ScanError
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import TOLERATED, Array, Placement, Volume

PLACEMENT_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""The fields of a header that say where a scan lies."""

MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres in one unit of length: not told, metre, millimetre, micrometre."""

RIGHT = 1e-4
"""Cosine between two axes up to which ITK opens a scan that has no qform (5.4: an orthonormal sform, to 1e-4)."""

_SCANNER = 1


def read_placement(volume: Volume, header: nib.Nifti1Header) -> Placement:
    """What the header says of the place of `volume`, whose affine is in mm."""
    return Placement({name: header[name].copy() for name in PLACEMENT_FIELDS}, tuple(_find_doubts(volume, header)))


def write_placement(mask: Volume, header: nib.Nifti1Header) -> None:
    """Give `header` the place of a mask: the fields of its scan, so that it lies on it for every program.

    Where the scan has none (DICOM) the affine is the sform, and the grid with right angles that keeps the slices the
    qform, which is what ITK can open. A scan with sheared axes and without qform, which ITK cannot open, gives its
    masks one too.
    """
    header.set_xyzt_units("mm")
    for name, value in mask.placement.fields.items():
        header[name] = value
    if not mask.placement.fields:
        header.set_sform(mask.affine, code=_SCANNER)
    if not mask.placement.fields or _is_sheared_without_qform(mask, header):
        unit = 1 / MM[int(header["xyzt_units"]) % 8]
        header.set_qform(to_mm(mask.straighten().affine, unit), code=int(header["sform_code"]))


def to_mm(affine: Array, mm: float) -> Array:
    """A 4×4 affine whose lengths are in units of `mm` millimetres, in mm."""
    scaled: Array = affine * np.array([mm, mm, mm, 1.0])[:, None]
    return scaled


def read_unit_mm(path: Path, header: nib.Nifti1Header) -> float:
    """Millimetres in the header's unit of length; raises `ScanError` for one that the format does not know."""
    unit = int(header["xyzt_units"]) % 8
    if unit not in MM:
        raise scan_error(
            path,
            f"is measured in an unknown unit of length (xyzt_units {unit}), expected metre, mm or micrometre",
            "correct the header: 2 stands for mm",
        )
    return MM[unit]


def _is_sheared_without_qform(volume: Volume, header: nib.Nifti1Header) -> bool:
    """Whether the sform alone places it, and its axes are too far from right angles for ITK."""
    directions = volume.affine[:3, :3] / volume.spacing
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    return int(header["qform_code"]) <= 0 < int(header["sform_code"]) and cosine > RIGHT


def _find_doubts(volume: Volume, header: nib.Nifti1Header) -> Iterator[str]:
    """What a person should know of the place that a header gives to its scan."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    mm = MM[int(header["xyzt_units"]) % 8]
    if max(codes) <= 0:
        yield (
            f"does not state its orientation in the patient (sform and qform are unset); axes {volume.axes} are assumed"
        )
    if mm != 1:
        spacing = "×".join(f"{s:.4g}" for s in volume.spacing)
        yield f"is measured in units of {mm:g} mm (xyzt_units); voxels of {spacing} mm are understood"
    if _is_sheared_without_qform(volume, header):
        yield "has sheared axes and no qform; ITK (3D Slicer, ITK-SNAP) cannot open it, its masks get a nearest qform"
    if min(codes) > 0:
        apart = _qform_offset(volume, header, mm)
        if apart is None:
            yield "has a damaged qform; the sform is taken"
        elif apart[0] > TOLERATED:
            yield (
                f"has a qform and an sform that place it up to {apart[1]:.3g} mm apart; the sform is taken, and its "
                "masks keep both, so that they lie on it in every program"
            )


def _qform_offset(volume: Volume, header: nib.Nifti1Header, mm: float) -> tuple[float, float] | None:
    """How far the qform lies from the volume, voxels and mm; None for one that places nothing."""
    try:
        return volume.corner_offset(replace(volume, affine=to_mm(header.get_qform(), mm)))
    except (HeaderDataError, ValueError, ScanError):
        return None
