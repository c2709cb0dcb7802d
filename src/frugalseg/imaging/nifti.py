"""NIfTI files, through nibabel."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from frugalseg.errors import ScanError
from frugalseg.imaging.stored import broken, require_3d, require_file, require_plain, slim
from frugalseg.imaging.volume import TOLERATED, Array, Frame, Volume

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"

PLACE = (
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


def load_nifti(path: Path) -> Volume:
    """The volume of a `.nii` or `.nii.gz` file.

    The array keeps the stored integer type where the header holds no scaling, and is float32 otherwise; the affine
    is the file's own, in mm whatever unit the header has. The frame tells what is doubtful in the header.

    Raises:
        ScanError: the file is missing, damaged, no NIfTI, not 3D, in colours or complex, or has zero spacing or an
            unknown unit of length; or it is not compressed as its name says.
    """
    require_file(path)
    with _told(path), ExitStack() as stack:
        _require_packing(path)
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):
            raise broken(path, f"is no NIfTI file but {type(image).__name__}", "convert it to .nii.gz")
        shape = require_3d(path, image.shape)
        require_plain(path, image.get_data_dtype())
        _require_spacing(path, image)
        if path.name.lower().endswith(".gz"):
            stream = stack.enter_context(gzip.open(path))
            data = type(image).from_file_map(type(image).make_file_map({"image": stream}), mmap=False).dataobj
            array = _voxels(data).reshape(shape, order="A")
            # Reading on to the end makes gzip compare its checksum: flipped bits are found, not segmented.
            while stream.read(_CHUNK):
                pass
        else:
            array = _voxels(image.dataobj).reshape(shape, order="A")
    affine = _in_mm(image.affine, _mm(path, image.header))
    frame = Frame({name: image.header[name].copy() for name in PLACE})
    volume = Volume(array, affine, path, frame)
    return replace(volume, frame=replace(frame, doubts=tuple(_doubts(volume, image.header))))


def nifti_image(mask: Volume) -> nib.Nifti1Image:
    """`mask` as a NIfTI image that lies where its scan lies, for every program: by the scan's own fields.

    Where the scan has none (DICOM) the affine is the sform, and the nearest grid with right angles the qform, which is
    what ITK can open. A scan with sheared axes and without qform, which ITK cannot open, gives its masks one too.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(mask.array.dtype)
    header.set_data_shape(mask.array.shape)
    header.set_xyzt_units("mm")
    for name, value in mask.frame.fields.items():
        header[name] = value
    if not mask.frame.fields:
        header.set_sform(mask.affine, code=_SCANNER)
    if not mask.frame.fields or _without_right_angles(mask, header):
        unit = 1 / MM[int(header["xyzt_units"]) % 8]
        header.set_qform(_in_mm(mask.straightened().affine, unit), code=int(header["sform_code"]))
    return nib.Nifti1Image(mask.array, None, header)


def _in_mm(affine: Array, mm: float) -> Array:
    return np.diag([mm, mm, mm, 1.0]) @ affine


def _mm(path: Path, header: nib.Nifti1Header) -> float:
    unit = int(header["xyzt_units"]) % 8
    if unit not in MM:
        raise broken(
            path,
            f"is measured in an unknown unit of length (xyzt_units {unit}), expected metre, mm or micrometre",
            "correct the header: 2 stands for mm",
        )
    return MM[unit]


def _without_right_angles(volume: Volume, header: nib.Nifti1Header) -> bool:
    """Whether the sform alone places it, and its axes are too far from right angles for ITK."""
    directions = volume.affine[:3, :3] / volume.spacing
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    return int(header["qform_code"]) <= 0 < int(header["sform_code"]) and cosine > RIGHT


def _doubts(volume: Volume, header: nib.Nifti1Header) -> Iterator[str]:
    """What a person should know of the place that a header gives to its scan."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    mm = MM[int(header["xyzt_units"]) % 8]
    if max(codes) <= 0:
        yield (f"does not say how it lies in the patient (sform and qform are unset); axes {volume.axes} are assumed")
    if mm != 1:
        spacing = "×".join(f"{s:.4g}" for s in volume.spacing)
        yield f"is measured in units of {mm:g} mm (xyzt_units); voxels of {spacing} mm are understood"
    if _without_right_angles(volume, header):
        yield "has sheared axes and no qform; ITK (3D Slicer, ITK-SNAP) cannot open it, its masks get a nearest qform"
    if min(codes) > 0:
        apart = _qform_apart(volume, header, mm)
        if apart is None:
            yield "has a damaged qform; the sform is taken"
        elif apart[0] > TOLERATED:
            yield (
                f"has a qform and an sform that place it up to {apart[1]:.3g} mm apart; the sform is taken, and its "
                "masks keep both, so that they lie on it in every program"
            )


def _qform_apart(volume: Volume, header: nib.Nifti1Header, mm: float) -> tuple[float, float] | None:
    """How far the qform lies from the volume, voxels and mm; None for one that places nothing."""
    try:
        return volume.apart(replace(volume, affine=_in_mm(header.get_qform(), mm)))
    except (HeaderDataError, ValueError, ScanError):
        return None


def _require_packing(path: Path) -> None:
    """Refuse a file that is not compressed as its name says: the libraries go by the name and say little."""
    named = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    if packed and not named:
        raise broken(path, "is compressed, though its name does not end in .gz", f"rename it to {path.name}.gz")
    if named and not packed:
        raise broken(
            path,
            "is damaged or not compressed, though its name ends in .gz",
            f"rename it to {path.name[:-3]} if it is a NIfTI file, else copy or export it again",
        )
    if packed:
        with gzip.open(path) as stream:
            twice = stream.read(2) == _GZIP
        if twice:
            raise broken(path, "is compressed twice", "decompress it once with gunzip, and name the result .nii.gz")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what nibabel and gzip raise on a broken file into a `ScanError`."""
    try:
        yield
    except ScanError:
        raise
    except MemoryError as error:
        raise broken(
            path, "claims more voxels than memory holds; its header is damaged or the scan too large"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise broken(path, f"is cut short or damaged ({_first_line(error)})") from error
    except ImageFileError as error:
        raise broken(path, f"is no NIfTI file, or its header is damaged ({_first_line(error)})") from error
    except OSError as error:
        # nibabel says "Expected N bytes, got M" so; a real trouble of the disk has an errno.
        what = error.strerror or f"it is cut short: {_first_line(error)}"
        raise broken(path, f"cannot be read ({what})") from error
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        raise broken(path, f"has a damaged NIfTI header ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _voxels(data: Any) -> Array:
    """The stored voxels, scaled in place where the header asks for it; no float64 copy is made by the scaling."""
    array = slim(data.get_unscaled())
    if (data.slope, data.inter) == (1, 0):
        return array
    scaled = array.astype(np.float32, copy=False)
    if not scaled.flags.writeable:
        scaled = scaled.copy(order="K")
    scaled *= np.float32(data.slope)
    scaled += np.float32(data.inter)
    return scaled


def _require_spacing(path: Path, image: nib.Nifti1Image) -> None:
    """Refuse zero spacing: nibabel sets it to 1 mm, which would be a lie where the affine is made from it."""
    if int(image.header["sform_code"]) > 0:
        return
    with ImageOpener(str(path)) as file:
        header = type(image.header).from_fileobj(file, check=False)
    spacing = tuple(float(s) for s in header["pixdim"][1:4])
    if 0 in spacing:
        raise broken(
            path, f"has zero spacing {spacing}", "correct the header: spacing must be positive in mm on every axis"
        )
