"""DICOM: one series of slices becomes one volume.

`dicom_series.py` decides which files belong together and where they lie; this file reads the voxels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.claims import require_plausible
from frugalseg.imaging.dicom_series import Slice, list_slices, series_affine, sort_slices
from frugalseg.imaging.stored import broken
from frugalseg.imaging.volume import Array, Volume

_INT16 = np.iinfo(np.int16)


def load_dicom(path: Path) -> Volume:
    """The volume of a folder that holds one DICOM series, or of one DICOM file.

    Axes are those of dcm2niix: columns, rows from the bottom up (towards anterior in axial slices), slices along
    their normal (towards superior). Rescale slope and intercept are applied file by file. The array is int16 where
    they are integral and the values fit, else float32. The step between slices comes from their positions, so the
    tilt of a gantry stays as shear in the affine; a single slice is as thick as its SliceThickness.

    Raises:
        ScanError: files of several series, sizes or orientations; missing or double slices; colours; multi-frame
            files; files that are damaged or no DICOM.
    """
    slices = sort_slices(list_slices(path), path)
    require_plausible(path, (*slices[0].shape, len(slices)), 4, 0, "other")
    return Volume(_voxels(slices), series_affine(slices, path), path)


def _voxels(slices: list[Slice]) -> Array:
    """Decoded slices, shape (columns, rows from the bottom up, slices)."""
    rows, columns = slices[0].shape
    stack: Array = np.empty((len(slices), rows, columns), dtype=np.int16 if _integral(slices) else np.float32)
    for z, one in enumerate(slices):
        plane = _rescaled(one, _pixels(one))
        if stack.dtype == np.int16 and (plane.min() < _INT16.min or plane.max() > _INT16.max):
            stack = stack.astype(np.float32)
        stack[z] = plane[::-1]
    return stack.transpose(2, 1, 0)


def _integral(slices: list[Slice]) -> bool:
    return all(s.whole_numbers and s.slope == int(s.slope) and s.intercept == int(s.intercept) for s in slices)


def _rescaled(one: Slice, pixels: Array) -> Array:
    """Stored pixels (rows, columns) in the scan's unit, as int64 where the scaling is integral, else float32."""
    if one.whole_numbers and one.slope == int(one.slope) and one.intercept == int(one.intercept):
        return pixels.astype(np.int64) * int(one.slope) + int(one.intercept)
    return pixels.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)


def _pixels(one: Slice) -> Array:
    """The stored pixels of one file, decompressed, shape (rows, columns)."""
    try:
        with BoundedReader(one.path) as file:
            dataset = dcmread(file, force=True)
        _name_syntax(dataset)
        pixels: Array = dataset.pixel_array
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever comes to their mind on damaged bytes
        raise broken(
            one.path,
            f"has pixels that cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "copy or export the file again, or convert the series with dcm2niix and give the NIfTI file",
        ) from error
    if pixels.shape != one.shape:
        raise broken(one.path, f"holds pixels of shape {pixels.shape}, its header says {one.shape}")
    return pixels


def _name_syntax(dataset: Dataset) -> None:
    """Files without a meta header hold uncompressed pixels, in the encoding in which they could be parsed."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
        dataset.file_meta.TransferSyntaxUID = syntax
