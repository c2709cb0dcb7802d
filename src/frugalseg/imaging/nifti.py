"""NIfTI and FreeSurfer files, through nibabel."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import scan_suffix
from frugalseg.imaging.header import check_header
from frugalseg.imaging.nifti_placement import read_placement, read_unit_mm, to_mm, write_placement
from frugalseg.imaging.validation import require_3d, require_file, require_real_numbers, scan_error, to_working_dtype
from frugalseg.imaging.volume import Array, Placement, Volume

_CHUNK_BYTES = 1 << 20
_MOST_TRAILING_BYTES = 1 << 26
_GZIP = b"\x1f\x8b"
_RAS_FLAG = slice(28, 30)
"""Bytes of an MGH header that state whether its orientation is valid."""


def load_nifti(path: Path) -> Volume:
    """The volume of a `.nii`, `.nii.gz` or `.nii.bz2` file.

    The array keeps the stored integer type if the header has no scaling, and is float32 otherwise; the affine is that
    of the file, in mm whatever the unit of the header. The placement lists what is doubtful in the header.

    Raises:
        ScanError: the file is missing, damaged, not NIfTI, not 3D, in colours or complex, has zero spacing or an
            unknown unit of length, or its compression does not match its suffix.
    """
    with scan_errors(path), ExitStack() as stack:
        image, shape = open_nifti(path)
        if _is_gzipped(path):
            stream = stack.enter_context(gzip.open(path))
            data = type(image).from_file_map(type(image).make_file_map({"image": stream}), mmap=False).dataobj
            array = _read_voxels(data).reshape(shape, order="A")
            _verify_checksum(path, stream)
        else:
            array = _read_voxels(image.dataobj).reshape(shape, order="A")
    return _place(path, image, array)


def open_nifti(path: Path) -> tuple[nib.Nifti1Image, tuple[int, int, int]]:
    """The header of a file, checked, and its three axes; raises `ScanError` as `load_nifti`, inside `scan_errors`."""
    require_file(path)
    _require_compression(path)
    check_header(path, scan_suffix(path))
    image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):
        raise scan_error(path, f"is not a NIfTI file but {type(image).__name__}", "convert it to .nii.gz")
    shape = require_3d(path, image.shape)
    require_real_numbers(path, image.get_data_dtype())
    _require_spacing(path, image)
    return image, shape


def map_nifti(path: Path) -> Volume | None:
    """The volume of a `.nii` file of unscaled integers, its voxels mapped from the file; None for any other file."""
    with scan_errors(path):
        image, shape = open_nifti(path)
        dtype = image.get_data_dtype()
        plain = path.name.lower().endswith(".nii") and dtype.kind in "iu" and dtype.isnative
        if not plain or (image.dataobj.slope, image.dataobj.inter) != (1, 0):
            return None
        if path.stat().st_size < image.dataobj.offset + dtype.itemsize * math.prod(shape):
            raise scan_error(path, "is truncated: it holds fewer voxels than its header claims")
        array = np.memmap(path, dtype, "r", image.dataobj.offset, shape, order="F")
    return _place(path, image, array)


def stream_nifti(path: Path, slices: int = 8) -> tuple[Volume, Iterator[Array]]:
    """The voxels of a file in blocks, so that memory never holds all of them.

    Returns:
        A volume whose array has the type and shape of `load_nifti`'s, but holds no values; and the values, in blocks
        (X, Y, n) along the last axis of the file. The iterator raises `ScanError` for a truncated or damaged file.
    """
    with scan_errors(path):
        image, shape = open_nifti(path)
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
        kind = np.dtype(np.float32) if scaled else to_working_dtype(np.empty(0, image.get_data_dtype())).dtype
    return _place(path, image, np.broadcast_to(np.zeros((), kind), shape)), _iterate_blocks(path, image, shape, slices)


def _iterate_blocks(path: Path, image: nib.Nifti1Image, shape: tuple[int, int, int], slices: int) -> Iterator[Array]:
    dtype, plane = image.get_data_dtype(), shape[0] * shape[1]
    with scan_errors(path), ImageOpener(str(path)) as stream:
        stream.read(image.dataobj.offset)
        for z in range(0, shape[2], slices):
            count = min(slices, shape[2] - z)
            stored = stream.read(count * plane * dtype.itemsize)
            if len(stored) < count * plane * dtype.itemsize:
                raise scan_error(path, "is truncated: it holds fewer voxels than its header claims")
            block = np.frombuffer(stored, dtype).reshape((*shape[:2], count), order="F")
            yield _scale(to_working_dtype(block), image.dataobj.slope, image.dataobj.inter)
        if _is_gzipped(path):
            _verify_checksum(path, stream)


def _is_gzipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _verify_checksum(path: Path, stream: Any) -> None:
    """Read a compressed stream to its end, which makes gzip verify its checksum: flipped bits are detected."""
    after = 0
    while more := len(stream.read(_CHUNK_BYTES)):
        after += more
        if after > _MOST_TRAILING_BYTES:
            raise scan_error(path, "decompresses to far more data than its header claims")


def _place(path: Path, image: nib.Nifti1Image, array: Array) -> Volume:
    volume = Volume(array, to_mm(image.affine, read_unit_mm(path, image.header)), path)
    return replace(volume, placement=read_placement(volume, image.header))


def to_nifti_image(mask: Volume) -> nib.Nifti1Image:
    """`mask` as a NIfTI image with the placement of its scan (see `nifti_placement.write_placement`)."""
    header = nib.Nifti1Header()
    header.set_data_dtype(mask.array.dtype)
    header.set_data_shape(mask.array.shape)
    write_placement(mask, header)
    return nib.Nifti1Image(mask.array, None, header)


def _require_compression(path: Path) -> None:
    """Raise `ScanError` if the compression does not match the suffix; the libraries trust the suffix."""
    named = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    if packed and not named:
        raise scan_error(path, "is compressed, though its name does not end in .gz", f"rename it to {path.name}.gz")
    if named and not packed:
        raise scan_error(
            path,
            "is damaged or not compressed, though its name ends in .gz",
            f"rename it to {path.name[:-3]} if it is a NIfTI file, else copy or export it again",
        )
    if packed:
        with gzip.open(path) as stream:
            twice = stream.read(2) == _GZIP
        if twice:
            raise scan_error(path, "is compressed twice", "decompress it once with gunzip, and name the result .nii.gz")


def load_mgh(path: Path) -> Volume:
    """The volume of a FreeSurfer file, `.mgz` or `.mgh`; the affine maps to scanner RAS, not to FreeSurfer's tkRAS.

    The placement notes if the header does not state the orientation in the patient.

    Raises:
        ScanError: the file is missing, damaged, not MGH, not 3D, or has zero spacing.
    """
    require_file(path)
    with scan_errors(path, "MGH"):
        # Decompressed at once, which verifies the checksum; these files are small.
        stored = gzip.decompress(path.read_bytes()) if path.name.lower().endswith("z") else path.read_bytes()
        image = nib.MGHImage.from_bytes(stored)
        shape = require_3d(path, image.shape)
        require_real_numbers(path, image.get_data_dtype())
        array = to_working_dtype(np.asanyarray(image.dataobj)).reshape(shape, order="A")
    volume = Volume(array, image.affine, path)
    if any(stored[_RAS_FLAG]):
        return volume
    # nibabel fills in a default orientation without a warning.
    doubt = f"does not state its orientation in the patient (the RAS flag is unset); axes {volume.axes} are assumed"
    return replace(volume, placement=Placement(doubts=(doubt,)))


@contextmanager
def scan_errors(path: Path, kind: str = "NIfTI") -> Iterator[None]:
    """Turn exceptions of nibabel and gzip on a damaged file into a `ScanError`."""
    try:
        yield
    except ScanError:
        raise
    except MemoryError as error:
        raise scan_error(
            path, "claims more voxels than memory holds; its header is damaged, or the scan is too large"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise scan_error(path, f"is truncated or damaged ({_first_line(error)})") from error
    except ImageFileError as error:
        raise scan_error(path, f"is not a {kind} file, or its header is damaged ({_first_line(error)})") from error
    except OSError as error:
        # nibabel raises OSError for "Expected N bytes, got M"; real disk errors have an errno.
        what = error.strerror or f"it is truncated: {_first_line(error)}"
        raise scan_error(path, f"cannot be read ({what})") from error
    except (HeaderDataError, MGHError, ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise scan_error(path, f"has a damaged {kind} header ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_voxels(data: Any) -> Array:
    """The stored voxels, scaled in place if the header defines scaling, without a float64 copy."""
    return _scale(to_working_dtype(data.get_unscaled()), data.slope, data.inter)


def _scale(array: Array, slope: float, inter: float) -> Array:
    if (slope, inter) == (1, 0):
        return array
    scaled = array.astype(np.float32, copy=False)
    if not scaled.flags.writeable:
        scaled = scaled.copy(order="K")
    scaled *= np.float32(slope)
    scaled += np.float32(inter)
    return scaled


def _require_spacing(path: Path, image: nib.Nifti1Image) -> None:
    """Raise `ScanError` for zero spacing, which nibabel silently replaces by 1 mm if the affine depends on it."""
    if int(image.header["sform_code"]) > 0:
        return
    with ImageOpener(str(path)) as file:
        header = type(image.header).from_fileobj(file, check=False)
    spacing = tuple(float(s) for s in header["pixdim"][1:4])
    if 0 in spacing:
        raise scan_error(
            path, f"has zero spacing {spacing}", "correct the header: spacing must be positive in mm on every axis"
        )
