"""DICOM: one series of slices becomes one volume.

`dicom_series.py` decides which files belong together and where they lie; this file reads the voxels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from frugalseg.errors import FrugalsegError
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.dicom_jpeg import JPEG, decode_jpeg
from frugalseg.imaging.dicom_series import Slice, list_slices, series_affine, sort_slices
from frugalseg.imaging.plausibility import require_plausible
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Volume

_INT16 = np.iinfo(np.int16)

PixelMask = npt.NDArray[np.bool_]


def load_dicom(path: Path) -> Volume:
    """The volume of a folder that holds one DICOM series, or of one DICOM file.

    Axes are those of dcm2niix: columns, rows from the bottom up (towards anterior in axial slices), slices along
    their normal (towards superior). Rescale slope and intercept, or the Modality LUT, are applied file by file. The
    array is int16 where all values are whole and fit, else float32. Pixels that the header calls padding all get one
    value just below the others, and `Volume.padding` names it. The step between slices comes from their positions, so
    the tilt of a gantry stays as shear in the affine; a single slice is as thick as its SliceThickness.

    Raises:
        ScanError: files of several series, sizes, orientations or kinds of rescaling; missing, uneven or double
            slices; colours; multi-frame files; nothing but padding; files that are damaged or no DICOM.
    """
    slices = sort_slices(list_slices(path), path)
    require_plausible(path, (*slices[0].shape, len(slices)), 4, 0, "other")
    stack, padding = _stack_slices(slices, path)
    return Volume(stack.transpose(2, 1, 0), series_affine(slices, path), path, padding=padding)


def _stack_slices(slices: list[Slice], path: Path) -> tuple[Array, float | None]:
    """Decoded slices, shape (slices, rows from the bottom up, columns), and the value of padding where there is any."""
    stack: Array = np.empty((len(slices), *slices[0].shape), dtype=np.int16)
    hidden: dict[int, PixelMask] = {}
    lowest = np.inf
    for z, one in enumerate(slices):
        plane, mask = _read_slice(one)
        if mask is not None:
            hidden[z] = mask[::-1]
            # Padding must not decide the type of the whole: 65535, say, does not fit int16.
            plane[mask] = np.min(plane, initial=0 if mask.all() else plane.max(), where=~mask)
        if mask is None or not mask.all():
            lowest = min(lowest, float(plane.min()))
        stack = _widen_type(stack, plane)
        stack[z] = plane[::-1]
    if lowest == np.inf:
        raise scan_error(
            path, "holds nothing but padding (PixelPaddingValue)", "leave it out, or export the series again"
        )
    if not hidden:
        return stack, None
    fill = _value_below(lowest)
    stack = _widen_type(stack, np.array(round(fill)))
    for z, mask in hidden.items():
        stack[z][mask] = fill
    return stack, fill


def _widen_type(stack: Array, values: Array) -> Array:
    """The stack in a type that holds these values too: int16 while all are whole and small, else float32."""
    whole = values.dtype.kind != "f" and _INT16.min <= values.min() and values.max() <= _INT16.max
    return stack if whole else stack.astype(np.float32, copy=False)


def _value_below(lowest: float) -> float:
    """A value that no voxel holds, just below the lowest, and another than it in float32 too."""
    return float(np.float32(lowest - max(1.0, abs(lowest) * 1e-6)))


def _read_slice(one: Slice) -> tuple[Array, PixelMask | None]:
    """One slice in the scan's unit, shape (rows, columns), and where it is padding, or None."""
    try:
        with BoundedReader(one.path) as file:
            dataset = dcmread(file, force=True)
        _set_transfer_syntax(dataset)
        pixels = _decode_pixels(dataset)
        values = one.stored.rescale(pixels, dataset)
    except (MemoryError, FrugalsegError):
        raise
    except Exception as error:  # decoders raise whatever comes to their mind on damaged bytes
        raise scan_error(
            one.path,
            f"has pixels that cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "copy or export the file again, or convert the series with dcm2niix and give the NIfTI file",
        ) from error
    if pixels.shape != one.shape:
        raise scan_error(one.path, f"holds pixels of shape {pixels.shape}, its header says {one.shape}")
    return values, one.stored.find_padding(pixels)


def _decode_pixels(dataset: Dataset) -> Array:
    """The stored pixels of one file, decompressed, shape (rows, columns)."""
    if dataset.file_meta.TransferSyntaxUID in JPEG:
        return decode_jpeg(dataset)
    pixels: Array = dataset.pixel_array
    return pixels


def _set_transfer_syntax(dataset: Dataset) -> None:
    """Files without a meta header hold uncompressed pixels, in the encoding in which they could be parsed."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
        dataset.file_meta.TransferSyntaxUID = syntax
