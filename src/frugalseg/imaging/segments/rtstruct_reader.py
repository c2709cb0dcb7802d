"""Read RTSTRUCT onto the grid of a scan: a voxel is inside where its centre is (see `contours`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from frugalseg.errors import FrugalsegError, PairingError
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.segments.contours import Points, fill_outlines
from frugalseg.imaging.segments.kinds import SEGMENTS_FILE, label_values, list_segments, overlap_error
from frugalseg.imaging.segments.planes import OTHER_SCAN, check_frame_of_reference, to_indices
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import TOLERATED, Array, Volume

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path, scan: Volume) -> Volume:
    """The mask of an RTSTRUCT file on the grid of its scan; values are those of `kinds.label_values`.

    Contours of one region in a slice are combined by exclusive or, so that a contour within another is a hole.

    Raises:
        ScanError: the file is damaged, has open contours, or regions overlap.
        PairingError: a contour does not lie in a slice of the scan, or in another frame of reference.
    """
    try:
        with BoundedReader(path) as file:
            dataset = dcmread(file)
        return _read(dataset, path, scan)
    except (MemoryError, FrugalsegError):
        raise
    except Exception as error:  # pydicom passes on whatever its parsers raise on damaged bytes
        raise scan_error(path, f"cannot be read as RTSTRUCT ({type(error).__name__}: {error})") from error


def _read(dataset: Dataset, path: Path, scan: Volume) -> Volume:
    segments = list_segments(dataset)
    values = label_values(path, segments)
    names = {one.number: one.name for one in segments}
    for region in dataset.StructureSetROISequence:
        check_frame_of_reference(str(region.get("ReferencedFrameOfReferenceUID") or ""), scan, str(path))
    mask: Array = np.zeros(scan.array.shape, np.uint16)
    axis = _slice_axis(dataset, values, scan)
    by_value = {values[number]: names[number] for number in values}
    for region in dataset.get("ROIContourSequence") or ():
        number = int(region.ReferencedROINumber)
        if number in values:
            _draw_region(mask, axis, values[number], _read_outlines(region, names[number], path, scan), path, by_value)
    return scan.with_array(mask)


def _slice_axis(dataset: Dataset, values: Mapping[int, int], scan: Volume) -> int:
    """The axis of the scan that the contours are perpendicular to: along which they extend least; by default the last.

    Planes of several directions are refused where a contour turns out not to lie in a slice.
    """
    for region in dataset.get("ROIContourSequence") or ():
        for contour in region.get("ContourSequence") or () if int(region.ReferencedROINumber) in values else ():
            if len(contour.ContourData) >= 9:
                places = to_indices(np.array(contour.ContourData, float).reshape(-1, 3), scan)
                return int(np.ptp(places, axis=0).argmin())
    return 2


def _read_outlines(region: Dataset, name: str, path: Path, scan: Volume) -> list[Points]:
    """The contours of a region as voxel indices (N, 3)."""
    outlines = []
    for contour in region.get("ContourSequence") or ():
        if contour.ContourGeometricType not in _CLOSED:
            raise scan_error(
                path,
                f"has a contour of {name!r} that is not closed ({contour.ContourGeometricType})",
                f"close it, or name the other regions in {path.parent / SEGMENTS_FILE} (columns name and value)",
            )
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        if len(points) >= 3:  # fewer enclose nothing
            outlines.append(to_indices(points, scan))
    return outlines


def _draw_region(
    mask: Array, axis: int, value: int, outlines: list[Points], path: Path, names: Mapping[int, str]
) -> None:
    """Give the voxels within the contours of one region their value, in place."""
    slices: dict[int, list[Points]] = defaultdict(list)
    others = [one for one in range(3) if one != axis]
    for points in outlines:
        z = round(float(points[:, axis].mean()))
        if np.abs(points[:, axis] - z).max() > TOLERATED or not 0 <= z < mask.shape[axis]:
            raise PairingError(
                f"{path} has a contour of {names[value]!r} that does not lie in a slice of the scan: in slices "
                f"{points[:, axis].min():.2f}…{points[:, axis].max():.2f} of 0…{mask.shape[axis] - 1}",
                OTHER_SCAN,
            )
        slices[z].append(points[:, others])
    planes = np.moveaxis(mask, axis, 0)
    for z, rings in slices.items():
        plane = planes[z]
        inside = fill_outlines(rings, (plane.shape[0], plane.shape[1]))
        if (plane[inside] > 0).any():
            other = int(plane[inside][plane[inside] > 0][0])
            raise overlap_error(path, names[other], names[value])
        plane[inside] = value
