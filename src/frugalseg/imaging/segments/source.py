"""The DICOM series that a mask refers to, and the mask in the order of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from frugalseg.imaging.dicom_series import Slice, list_slices, series_affine, sort_slices
from frugalseg.imaging.formats import is_dicom_file, is_dicom_folder
from frugalseg.imaging.segments.codes import SegmentCode
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Volume

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Tags that a DICOM object must have, but that may be empty, as in anonymised series."""


@dataclass(frozen=True)
class Organ:
    """One segment to write: its name, its label value in the mask, and its coded term, if it has one."""

    name: str
    value: int
    code: SegmentCode | None


@dataclass(frozen=True)
class Author:
    """What made a mask.

    Attributes:
        name: such as "frugalseg predict"; the algorithm's name.
        version: of the program.
        kind: how far a person took part: AUTOMATIC, SEMIAUTOMATIC or MANUAL.
        parameters: what else identifies the algorithm, such as the hash of its weights.
    """

    name: str
    version: str
    kind: str = "AUTOMATIC"
    parameters: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Series:
    """A series as the source of a mask.

    Attributes:
        headers: of its files, without pixels, in the order of the slices of the volume that is read from them.
        slices: where each lies.
        path: of the series, for messages.
    """

    headers: list[Dataset]
    slices: list[Slice]
    path: Path

    @classmethod
    def read(cls, path: Path) -> Series:
        """The series in a folder, or of one file.

        Raises:
            ScanError: it is no DICOM series, or lacks what a reference to it needs.
        """
        require_series(path)
        slices = sort_slices(list_slices(path), path)
        headers = [dcmread(one.path, force=True, stop_before_pixels=True) for one in slices]
        for header, one in zip(headers, slices, strict=True):
            if missing := [tag for tag in _NEEDED if not header.get(tag)]:
                raise scan_error(
                    one.path,
                    f"lacks {' and '.join(missing)}, to which DICOM SEG and RTSTRUCT refer",
                    "export the series again without removing these tags, or choose --output-type nifti",
                )
            for tag in _MAY_BE_EMPTY:
                if tag not in header:
                    setattr(header, tag, None)
        return cls(headers, slices, path)

    def to_frames(self, mask: Volume) -> Array:
        """The mask as frames (slices, rows, columns), row 0 at the top as DICOM stores it.

        Raises:
            ScanError: the mask is not on the grid of this series, as when slices were added or removed since.
        """
        grid = Volume(np.empty(mask.array.shape, np.bool_), series_affine(self.slices, self.path))
        rows, columns = self.slices[0].shape
        if mask.array.shape != (columns, rows, len(self.slices)) or not mask.same_grid(grid):
            raise scan_error(
                self.path,
                f"has other slices than its mask ({mask.describe_grid()})",
                "make the mask again from the series as it is now",
            )
        # The reader turns rows so that they run from the bottom up; see `imaging.dicom.load_dicom`.
        return np.ascontiguousarray(mask.array.transpose(2, 1, 0)[:, ::-1])


def require_series(path: Path) -> None:
    """Raise `ScanError` unless a scan is DICOM."""
    if not (is_dicom_folder(path) or is_dicom_file(path)):
        raise scan_error(
            path,
            "is not a DICOM series, to which DICOM SEG and RTSTRUCT refer",
            "give the DICOM series, or choose --output-type nifti or nrrd",
        )
