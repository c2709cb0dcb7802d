"""Scans and grids shared by the imaging tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
"""All 48 ways to permute and flip three axes."""


def make_affine(
    orientation: int = 0,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    angles: Sequence[float] = (0.0, 0.0, 0.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    shear: float = 0.0,
) -> npt.NDArray[np.float64]:
    order, signs = ORIENTATIONS[orientation]
    axes = np.zeros((3, 3))
    axes[list(order), range(3)] = signs
    slant = np.eye(3)
    slant[0, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes @ slant @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


@st.composite
def affines(draw: st.DrawFn, sheared: bool = False) -> npt.NDArray[np.float64]:
    """Affines of any orientation, oblique by up to 40° about each axis."""
    number = st.floats(-300, 300, allow_nan=False, width=32)
    return make_affine(
        draw(st.integers(0, 47)),
        [draw(st.floats(0.25, 8, width=32)) for _ in range(3)],
        [draw(st.floats(-40, 40, width=32)) for _ in range(3)],
        [draw(number) for _ in range(3)],
        draw(st.floats(-0.5, 0.5, width=32)) if sheared else 0.0,
    )


def numbered(shape: tuple[int, int, int] = (3, 4, 5), dtype: type = np.uint8) -> npt.NDArray[np.generic]:
    """Every voxel another number, so that no flip or permutation goes unseen."""
    return np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(dtype)


def write_slice(
    path: Path,
    pixels: npt.NDArray[np.generic],
    position: Sequence[float],
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (1.5, 0.75),
    series: str = "1.2.3",
    **tags: object,
) -> Path:
    """One uncompressed DICOM slice; a tag given as None is omitted."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    fields: dict[str, object] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "SeriesInstanceUID": series,
        "SeriesDescription": f"series {series}",
        "SeriesNumber": 1,
        "ImagePositionPatient": [f"{float(v):.10g}" for v in position],
        "ImageOrientationPatient": [f"{float(v):.10g}" for v in orientation],
        "PixelSpacing": list(spacing),
        "SliceThickness": 5,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PixelData": pixels.tobytes(),
    } | tags
    for name, value in fields.items():
        if value is not None:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return path


def write_series(
    folder: Path,
    count: int = 5,
    step: Sequence[float] = (0, 0, 2.5),
    shape: tuple[int, int] = (4, 6),
    **options: object,
) -> list[Path]:
    """An axial series under file names that say nothing of its order; slice k holds the value 100·k + pixel number."""
    names = np.random.default_rng(count).permutation(count)
    return [
        write_slice(
            folder / f"IM{names[k]:03d}",
            (100 * k + np.arange(np.prod(shape)).reshape(shape)).astype(np.int16),
            np.array([-20.0, -30.0, 100.0]) + k * np.array(step, dtype=float),
            **options,  # type: ignore[arg-type]
        )
        for k in range(count)
    ]
