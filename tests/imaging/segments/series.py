"""DICOM series with everything that a mask refers to, for the tests of masks as DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.uid import generate_uid

from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.codes import find_codes
from frugalseg.imaging.segments.source import Author, Organ
from frugalseg.imaging.volume import Volume, canonical
from tests.imaging.scans import write_series, write_slice

PATIENT = {
    **{"PatientID": "1", "PatientName": "A^B", "PatientBirthDate": "19500101", "PatientSex": "F", "StudyID": "1"},
    **{"StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "1", "ReferringPhysicianName": "C^D"},
}
GRIDS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 2.5)),
    "numbered downwards": ((1, 0, 0, 0, 1, 0), (0, 0, -2.5)),
    "prone": ((-1, 0, 0, 0, -1, 0), (0, 0, 2.5)),
    "mirrored": ((1, 0, 0, 0, -1, 0), (0, 0, 2.5)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 2.5, 0)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (2.5, 0, 0)),
    "oblique": ((0.8, 0.6, 0, -0.6, 0.8, 0), (0, 0, 2.5)),
    "doubly oblique": ((0.8, 0.6, 0, -0.48, 0.64, 0.6), (0.9, -1.2, 2.0)),
    "turned by 45°": ((1, 0, 0, 0, 0.70710678, 0.70710678), (0, -2.12132, 2.12132)),
    "tilted gantry": ((1, 0, 0, 0, 1, 0), (0, 0.8, 2.5)),
}
"""Name → ImageOrientationPatient and the step between slices."""

AUTHOR = Author("frugalseg predict", "0.0", parameters={"weights": "abc"})


def write_source(folder: Path, grid: str = "axial", shape: tuple[int, int] = (12, 15), count: int = 6) -> Path:
    orientation, step = GRIDS[grid]
    uids = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(), "SeriesDescription": "made"}
    write_series(folder, count, step, shape, orientation=orientation, series=generate_uid(), **uids, **PATIENT)
    return folder


def random_mask(scan: Volume, values: Sequence[int], seed: int = 0) -> Volume:
    """Noise: with holes, islands in holes, corners that touch, and the scan's borders."""
    rng = np.random.default_rng(seed)
    drawn: npt.NDArray[np.uint16] = rng.choice(np.array([0, *values], np.uint16), scan.array.shape)
    drawn[..., 0] = 0  # a slice without a mask
    return scan.with_array(drawn)


def make_organs(**values: int) -> list[Organ]:
    names = {name.replace("_", " "): value for name, value in values.items()}
    codes = find_codes(names)
    return [Organ(name, value, codes[name]) for name, value in names.items()]


def write_as_dicom(path: Path, folder: Path) -> None:
    """A scan without rotation as a series."""
    scan = canonical(read_volume(path))[0]
    uids = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(), "SeriesDescription": "made"}
    series, (dx, dy, dz) = generate_uid(), scan.spacing
    for z in range(scan.array.shape[2]):
        at = scan.affine @ [0, 0, z, 1] * [-1, -1, 1, 1]
        pixels = np.ascontiguousarray(scan.array[:, :, z].T).astype(np.int16)
        tags = {**uids, **PATIENT, "SliceThickness": dz}
        write_slice(folder / f"{z}.dcm", pixels, at[:3], spacing=(dy, dx), series=series, **tags)
