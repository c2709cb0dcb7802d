"""Read one DICOM series as one volume.

`dicom_series.py` decides which files belong together and where they lie in the patient; this module reads the voxels.
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

    The axes are those of dcm2niix: columns, rows from the bottom up (towards anterior in axial slices), slices along
    their normal (towards superior). Rescale slope and intercept, or the Modality LUT, are applied file by file. The
    array is int16 if all values are integers in that range, otherwise float32. All padding pixels, as the header
    defines them, get one value just below the others, given in `Volume.padding`. The step between slices is computed
    from their positions, so that a gantry tilt is kept as shear in the affine; a single slice is as thick as its
    SliceThickness.

    Raises:
        ScanError: files of several series, sizes, orientations or kinds of rescaling; missing, unevenly spaced or
            duplicate slices; colours; multi-frame files; nothing but padding; damaged files, or files that are not
            DICOM.
    """
    slices = sort_slices(list_slices(path), path)
    require_plausible(path, (*slices[0].shape, len(slices)), 4, 0, "other")
    stack, padding = _stack_slices(slices, path)
    return Volume(stack.transpose(2, 1, 0), series_affine(slices, path), path, padding=padding)


def _stack_slices(slices: list[Slice], path: Path) -> tuple[Array, float | None]:
    """Decoded slices, shape (slices, rows from the bottom up, columns), and the padding value if there is padding."""
    stack: Array = np.empty((len(slices), *slices[0].shape), dtype=np.int16)
    hidden: dict[int, PixelMask] = {}
    lowest = np.inf
    for z, one in enumerate(slices):
        plane, mask = _read_slice(one)
        if mask is not None:
            hidden[z] = mask[::-1]
            # Padding must not determine the type of the array: 65535, for example, does not fit int16.
            plane[mask] = np.min(plane, initial=0 if mask.all() else plane.max(), where=~mask)
        if mask is None or not mask.all():
            lowest = min(lowest, float(plane.min()))
        stack = _widen_type(stack, plane)
        stack[z] = plane[::-1]
    if lowest == np.inf:
        raise scan_error(path, "holds nothing but padding (PixelPaddingValue)", "remove it, or export the series again")
    if not hidden:
        return stack, None
    fill = _value_below(lowest)
    stack = _widen_type(stack, np.array(round(fill)))
    for z, mask in hidden.items():
        stack[z][mask] = fill
    return stack, fill


def _widen_type(stack: Array, values: Array) -> Array:
    """The stack in a type that can also hold `values`: int16 while all are integers in range, otherwise float32."""
    whole = values.dtype.kind != "f" and _INT16.min <= values.min() and values.max() <= _INT16.max
    return stack if whole else stack.astype(np.float32, copy=False)


def _value_below(lowest: float) -> float:
    """A value just below the lowest, which no voxel has; distinct from it in float32 too."""
    return float(np.float32(lowest - max(1.0, abs(lowest) * 1e-6)))


def _read_slice(one: Slice) -> tuple[Array, PixelMask | None]:
    """One slice in the unit of the scan, shape (rows, columns), and its padding mask, or None."""
    try:
        with BoundedReader(one.path) as file:
            dataset = dcmread(file, force=True)
        _set_transfer_syntax(dataset)
        pixels = _decode_pixels(dataset)
        values = one.stored.rescale(pixels, dataset)
    except (MemoryError, FrugalsegError):
        raise
    except Exception as error:  # decoders raise many kinds of exceptions on damaged bytes
        raise scan_error(
            one.path,
            f"has pixels that cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "copy or export the file again, or convert the series with dcm2niix and give the NIfTI file",
        ) from error
    if pixels.shape != one.shape:
        raise scan_error(one.path, f"holds pixels of shape {pixels.shape}, but its header says {one.shape}")
    return values, one.stored.find_padding(pixels)


def _decode_pixels(dataset: Dataset) -> Array:
    """The stored pixels of one file, decompressed, shape (rows, columns)."""
    if dataset.file_meta.TransferSyntaxUID in JPEG:
        return decode_jpeg(dataset)
    pixels: Array = dataset.pixel_array
    return pixels


def _set_transfer_syntax(dataset: Dataset) -> None:
    """Name the transfer syntax of a file without a meta header: uncompressed, in the encoding that pydicom detected."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
        dataset.file_meta.TransferSyntaxUID = syntax
