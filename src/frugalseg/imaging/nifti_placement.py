"""Placement of a scan by a NIfTI header: unit of length, qform, sform, and doubts about them."""

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
"""The header fields that define where a scan lies."""

MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres per unit of length: unknown, metre, millimetre, micrometre."""

RIGHT = 1e-4
"""Largest cosine between two axes with which ITK opens a scan without qform (5.4: orthonormal sform, to 1e-4)."""

_SCANNER = 1


def read_placement(volume: Volume, header: nib.Nifti1Header) -> Placement:
    """The placement of `volume`, whose affine is in mm, according to its header."""
    return Placement({name: header[name].copy() for name in PLACEMENT_FIELDS}, tuple(_find_doubts(volume, header)))


def write_placement(mask: Volume, header: nib.Nifti1Header) -> None:
    """Write the placement of a mask to `header`: the fields of its scan, so that both coincide in every program.

    Without such fields (DICOM), the affine becomes the sform, and the grid with right angles that keeps the
    slices the qform, which ITK can open. Masks of a scan with sheared axes and no qform, which ITK cannot open, get
    such a qform too.
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
    """Convert a 4×4 affine from units of `mm` millimetres to mm."""
    scaled: Array = affine * np.array([mm, mm, mm, 1.0])[:, None]
    return scaled


def read_unit_mm(path: Path, header: nib.Nifti1Header) -> float:
    """Millimetres per unit of length of the header; raises `ScanError` for a unit that NIfTI does not define."""
    unit = int(header["xyzt_units"]) % 8
    if unit not in MM:
        raise scan_error(
            path,
            f"is measured in an unknown unit of length (xyzt_units {unit}), expected metre, mm or micrometre",
            "correct the header: xyzt_units 2 is mm",
        )
    return MM[unit]


def _is_sheared_without_qform(volume: Volume, header: nib.Nifti1Header) -> bool:
    """Whether there is only an sform, and its axes are too far from right angles for ITK."""
    directions = volume.affine[:3, :3] / volume.spacing
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    return int(header["qform_code"]) <= 0 < int(header["sform_code"]) and cosine > RIGHT


def _find_doubts(volume: Volume, header: nib.Nifti1Header) -> Iterator[str]:
    """Doubts about the placement of a scan by its header, each to continue a sentence that begins with its name."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    mm = MM[int(header["xyzt_units"]) % 8]
    if max(codes) <= 0:
        yield (
            f"does not state its orientation in the patient (sform and qform are unset); axes {volume.axes} are assumed"
        )
    if mm != 1:
        spacing = "×".join(f"{s:.4g}" for s in volume.spacing)
        yield f"is measured in units of {mm:g} mm (xyzt_units); this is read as voxels of {spacing} mm"
    if _is_sheared_without_qform(volume, header):
        yield "has sheared axes and no qform; ITK (3D Slicer, ITK-SNAP) cannot open it; its masks get the nearest qform"
    if min(codes) > 0:
        offset = _qform_offset(volume, header, mm)
        if offset is None:
            yield "has a damaged qform; the sform is used"
        elif offset[0] > TOLERATED:
            yield (
                f"has a qform and an sform that differ by up to {offset[1]:.3g} mm; the sform is used, and its masks "
                "keep both, so that they coincide with it in every program"
            )


def _qform_offset(volume: Volume, header: nib.Nifti1Header, mm: float) -> tuple[float, float] | None:
    """Largest distance between qform and affine, in voxels and mm; None if the qform is invalid."""
    try:
        return volume.corner_offset(replace(volume, affine=to_mm(header.get_qform(), mm)))
    except (HeaderDataError, ValueError, ScanError):
        return None
