"""Where a DICOM plane lies in the grid of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from frugalseg.errors import PairingError
from frugalseg.imaging.formats import is_dicom_file, list_visible
from frugalseg.imaging.itk import LPS_TO_RAS
from frugalseg.imaging.volume import TOLERATED, Array, Volume, format_shape, format_vector

OTHER_SCAN = "give the masks of this scan: they must have been drawn on the same series"


def to_indices(points: npt.NDArray[np.float64], scan: Volume) -> npt.NDArray[np.float64]:
    """Points (N, 3) in mm, LPS → voxel indices of the scan (N, 3)."""
    way = np.linalg.inv(scan.affine) @ LPS_TO_RAS
    indices: npt.NDArray[np.float64] = points @ way[:3, :3].T + way[:3, 3]
    return indices


@dataclass(frozen=True)
class Frame:
    """A plane of pixels, as DICOM places it.

    Attributes:
        shape: rows, columns.
        position: centre of the first pixel, mm, LPS.
        along_row, along_column: unit vectors, LPS, in the direction of increasing column and row index.
        spacing: mm between rows, mm between columns.
    """

    shape: tuple[int, int]
    position: Sequence[float]
    along_row: Sequence[float]
    along_column: Sequence[float]
    spacing: tuple[float, float]

    def find_in(self, array: Array, scan: Volume, name: str) -> Array:
        """The plane of `array`, which has the shape of the scan, that this frame covers: a view, (rows, columns).

        Raises:
            PairingError: the frame is not one plane of the scan's voxels.
        """
        rows, columns = self.shape
        down, right = np.array(self.along_column) * self.spacing[0], np.array(self.along_row) * self.spacing[1]
        first = np.array(self.position, float)
        corners = np.array([first, first + right * (columns - 1), first + down * (rows - 1)])
        exact = to_indices(corners, scan)
        steps = to_indices(first + np.array([right, down]), scan) - exact[0]
        column_axis, row_axis = (int(np.argmax(np.abs(step))) for step in steps)
        fixed = ({0, 1, 2} - {column_axis, row_axis}).pop()
        corner = np.rint(exact).astype(int)
        expected = np.abs(corner[0] - corner[1])[column_axis] + 1, np.abs(corner[0] - corner[2])[row_axis] + 1
        sizes = scan.array.shape[row_axis], scan.array.shape[column_axis]
        if np.abs(exact - corner).max() > TOLERATED or (expected[1], expected[0]) != self.shape or sizes != self.shape:
            raise self._off_grid_error(scan, name)
        z = int(corner[0, fixed])
        if not 0 <= z < array.shape[fixed]:
            raise self._off_grid_error(scan, name)
        plane = np.moveaxis(array, (fixed, row_axis, column_axis), (0, 1, 2))[z]
        directions = (steps[1][row_axis], steps[0][column_axis])
        view: Array = plane[tuple(slice(None, None, -1 if step < 0 else 1) for step in directions)]
        return view

    def _off_grid_error(self, scan: Volume, name: str) -> PairingError:
        return PairingError(
            f"{name} does not lie on the voxels of its scan: a plane of {format_shape(self.shape)} pixels at "
            f"{format_vector(self.position)} mm, scan {scan.describe_grid()}",
            OTHER_SCAN,
        )


def check_frame_of_reference(uid: str, scan: Volume, name: str) -> None:
    """Raise `PairingError` where a mask and a DICOM scan state different frames of reference."""
    own = read_frame_of_reference(scan.source)
    if uid and own and uid != own:
        raise PairingError(
            f"{name} was drawn in another frame of reference ({uid}) than that of its scan {scan.source} ({own})",
            OTHER_SCAN,
        )


def read_frame_of_reference(source: Path | None) -> str:
    """FrameOfReferenceUID of a DICOM series; "" for other scans, and where it is missing."""
    if source is None or not source.exists():
        return ""
    files = list_visible(source) if source.is_dir() else [source]
    first = next((file for file in files if is_dicom_file(file)), None)
    if first is None:
        return ""
    header = dcmread(first, force=True, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"])
    return str(header.get("FrameOfReferenceUID") or "")
