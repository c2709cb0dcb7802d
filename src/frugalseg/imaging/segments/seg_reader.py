"""Read DICOM SEG onto the grid of a scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels

from frugalseg.errors import FrugalsegError
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.segments.kinds import label_values, list_segments, overlap_error
from frugalseg.imaging.segments.planes import Frame, check_frame_of_reference
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Volume

_KINDS = ("BINARY", "LABELMAP")


def read_seg(path: Path, scan: Volume) -> Volume:
    """The mask of a SEG file on the grid of its scan; values are those of `kinds.label_values`.

    Frames may lie in any order and leave out empty slices; their axes may be flipped or permuted against those of the
    scan, which may be oblique or sheared. Nothing is resampled.

    Raises:
        ScanError: the file is damaged, holds fractions, or segments overlap.
        PairingError: a frame does not lie on a plane of the scan, or in another frame of reference.
    """
    try:
        with BoundedReader(path) as file:
            dataset = dcmread(file)
            return _read(dataset, path, scan)
    except (MemoryError, FrugalsegError):
        raise
    except Exception as error:  # pydicom passes on whatever its parsers and decoders raise on damaged bytes
        raise scan_error(path, f"cannot be read as DICOM SEG ({type(error).__name__}: {error})") from error


def _read(dataset: Dataset, path: Path, scan: Volume) -> Volume:
    if dataset.SegmentationType not in _KINDS:
        raise scan_error(
            path, f"holds fractions ({dataset.SegmentationType}), expected BINARY or LABELMAP", "export it as BINARY"
        )
    check_frame_of_reference(str(dataset.get("FrameOfReferenceUID") or ""), scan, str(path))
    segments = list_segments(dataset)
    values = label_values(path, segments)
    names = {values[one.number]: one.name for one in segments if one.number in values}
    mask: Array = np.zeros(scan.array.shape, np.uint16)
    for number, frame, pixels in _iterate_frames(dataset):
        if number is not None and number not in values:
            continue
        plane = frame.find_in(mask, scan, str(path))
        new = _to_values(pixels, number, values)
        both = (new > 0) & (plane > 0)
        if both.any():
            raise overlap_error(path, names[int(plane[both][0])], names[int(new[both][0])])
        np.copyto(plane, new, where=new > 0)
    return scan.with_array(mask)


def _to_values(pixels: Array, number: int | None, values: dict[int, int]) -> Array:
    """Pixels of one frame as label values: of one segment, or where `number` is None of a label map."""
    if number is not None:
        return np.where(pixels > 0, np.uint16(values[number]), np.uint16(0))
    table = np.zeros(int(pixels.max()) + 1, np.uint16)
    for own, value in values.items():
        if own < len(table):
            table[own] = value
    return table[pixels]


def _iterate_frames(dataset: Dataset) -> Iterator[tuple[int | None, Frame, Array]]:
    """Number of the segment (None: a label map), place and pixels of each frame."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shape = int(dataset.Rows), int(dataset.Columns)
    for own, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, iter_pixels(dataset), strict=True):
        orientation = _find(own, shared, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _find(own, shared, "PixelMeasuresSequence").PixelSpacing
        frame = Frame(
            shape=shape,
            position=[float(v) for v in _find(own, shared, "PlanePositionSequence").ImagePositionPatient],
            along_row=[float(v) for v in orientation[:3]],
            along_column=[float(v) for v in orientation[3:]],
            spacing=(float(spacing[0]), float(spacing[1])),
        )
        number = None
        if dataset.SegmentationType == "BINARY":
            number = int(_find(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        yield number, frame, pixels


def _find(own: Dataset, shared: Dataset, name: str) -> Any:
    """The functional group of one frame, or that of all frames."""
    return (own.get(name) or shared[name].value)[0]
