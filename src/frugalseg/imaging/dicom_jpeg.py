"""Decode JPEG and JPEG-LS pixels of a DICOM file with the GDCM library that is part of SimpleITK.

Pydicom has no built-in decoder for them. GDCM reads only files, so the frame is written to a temporary file without the
tags that would make ITK rescale it; the result is the stored values.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import SimpleITK
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    SecondaryCaptureImageStorage,
)

from frugalseg.errors import disk_errors
from frugalseg.imaging.volume import Array

JPEG = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
"""Transfer syntaxes decoded here; pydicom decodes the others."""

_SHAPE_TAGS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_STUFFING, _MARKERS_WITHOUT_LENGTH = 0xFF, {0x01, *range(0xD0, 0xD9)}
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers of JPEG and JPEG-LS (ITU-T T.81 table B.1, T.87)."""


def decode_jpeg(dataset: Dataset) -> Array:
    """The stored pixels of a file of one of the `JPEG` syntaxes, shape (rows, columns).

    Raises:
        ValueError: the stream is truncated, or describes another image than the header.
        RuntimeError: GDCM cannot decode it.
        DiskError: the folder for temporary files is full or cannot be written.
    """
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    _require_frame(stream, dataset)
    with disk_errors(Path(gettempdir())), TemporaryDirectory(prefix="frugalseg-") as folder:
        path = Path(folder) / "frame.dcm"
        _make_bare_file(stream, dataset).save_as(path, enforce_file_format=True)
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            pixels: Array = SimpleITK.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:  # ITK's message is long and names the temporary file
            raise RuntimeError("GDCM cannot decode the JPEG stream") from error
    return pixels.reshape(pixels.shape[-2:])


def _make_bare_file(stream: bytes, dataset: Dataset) -> Dataset:
    """A DICOM file that holds only this frame."""
    bare = Dataset()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.SOPClassUID = bare.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    bare.SOPInstanceUID = bare.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    bare.PhotometricInterpretation = "MONOCHROME2"
    for name in _SHAPE_TAGS:
        setattr(bare, name, dataset[name].value)
    bare.PixelData = encapsulate([stream])
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    return bare


def _require_frame(stream: bytes, dataset: Dataset) -> None:
    """Raise `ValueError` if the frame does not match the header: GDCM would write beyond its buffer."""
    precision, rows, columns, samples = _read_frame_header(stream)
    found = f"{columns}×{rows} pixels of {precision} bits, {samples} samples"
    expected = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    if (rows, columns, samples) != expected or not 2 <= precision <= int(dataset.BitsAllocated):
        raise ValueError(
            f"its JPEG stream holds {found}, but its header says {expected[1]}×{expected[0]} of at most "
            f"{dataset.BitsAllocated} bits, {expected[2]} samples"
        )


def _read_frame_header(stream: bytes) -> tuple[int, int, int, int]:
    """Precision in bits, rows, columns and samples of a JPEG stream; `ValueError` if it has no frame header."""
    position = 2
    while stream[:2] == b"\xff\xd8" and position + 4 <= len(stream) and stream[position] == _STUFFING:
        marker = stream[position + 1]
        if marker in _FRAME_MARKERS and position + 10 <= len(stream):
            rows, columns = (int.from_bytes(stream[i : i + 2], "big") for i in (position + 5, position + 7))
            return stream[position + 4], rows, columns, stream[position + 9]
        if marker == _STUFFING:
            position += 1
        else:
            length = int.from_bytes(stream[position + 2 : position + 4], "big")
            position += 2 if marker in _MARKERS_WITHOUT_LENGTH else 2 + length
    raise ValueError("its JPEG stream is damaged: it has no frame header")
