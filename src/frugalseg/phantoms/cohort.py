"""Procedural abdominal CT phantoms with realistic Hounsfield units and exact labels; each seed gives another patient.

They replace real scans in the demo, the documentation and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from frugalseg.engine.progress import progress
from frugalseg.errors import OptionError, disk_errors
from frugalseg.imaging.volume import Array, Volume
from frugalseg.imaging.write import write_mask
from frugalseg.phantoms import body, organs
from frugalseg.phantoms.canvas import BLUR_MM, Canvas
from frugalseg.phantoms.noise import correlated_noise, photon_loss
from frugalseg.phantoms.patient import Patient, draw_patient
from frugalseg.phantoms.tissue import LABELS, TISSUES

__all__ = ["FIELD_OF_VIEW_MM", "LABELS", "PhantomOptions", "make_phantom", "write_cohort"]


FIELD_OF_VIEW_MM = (384.0, 384.0, 240.0)
"""Default field of view: the whole trunk in-plane, from the heart to the iliac crests."""

HU_RANGE = (-1024, 1500)
SLAB_VOXELS = 4_000_000
"""Approximate size of the slabs in which slices are painted, to limit the memory for fine grids."""


@dataclass(frozen=True)
class PhantomOptions:
    """The grid of a phantom. The anatomy is defined in mm: a finer grid shows the same patient in more detail.

    Raises:
        OptionError: a size or a spacing is not positive.
    """

    shape: tuple[int, int, int] = (96, 96, 40)
    """Voxels along left, posterior, superior."""

    spacing: tuple[float, float, float] | None = None
    """Millimetres per voxel; None divides `FIELD_OF_VIEW_MM` by the shape (4 × 4 × 6 mm by default)."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.voxel_mm) <= 0:
            raise OptionError(
                f"a phantom of shape {self.shape} and spacing {self.spacing} holds no voxels",
                "give positive sizes and spacings",
            )

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """The effective spacing, mm."""
        if self.spacing is not None:
            return self.spacing
        x, y, z = (length / max(size, 1) for length, size in zip(FIELD_OF_VIEW_MM, self.shape, strict=True))
        return x, y, z


def make_phantom(seed: int, options: PhantomOptions | None = None) -> tuple[Volume, Volume]:
    """Make the scan (int16, HU) and the labels (uint8, `LABELS`) of one patient, with axes left, posterior, superior.

    The same seed and options give the same voxels; the same seed on another grid gives the same patient.
    """
    options = options or PhantomOptions()
    patient = draw_patient(seed)
    clean, tissue = paint_patient(patient, options)
    image = np.clip(clean + scan_noise(patient, options), *HU_RANGE).round().astype(np.int16)
    labels = np.where(tissue <= max(LABELS.values()), tissue, 0).astype(np.uint8)
    affine = _grid_affine(options)
    return Volume(image, affine), Volume(labels, affine)


def paint_patient(patient: Patient, options: PhantomOptions) -> tuple[Array, Array]:
    """The scan without noise (float32, HU), and the tissue of each voxel as its number in `TISSUES` (uint8)."""
    clean = np.empty(options.shape, np.float32)
    tissue = np.empty(options.shape, np.uint8)
    x, y, z = scanner_axes(options)
    blur = float(np.hypot(BLUR_MM, max(options.voxel_mm[:2])))
    for slab in _split_into_slabs(options):
        canvas = Canvas((x, y, z[slab]), patient.pose, blur)
        _paint(canvas, patient)
        clean[:, :, slab], tissue[:, :, slab] = canvas.hu, canvas.tissue
    _clear_slivers(clean, tissue, patient.hu["fat"])
    return clean, tissue


def _clear_slivers(clean: Array, tissue: Array, fat_hu: float) -> None:
    """Replace parts of an organ that others have cut off by fat, so that every organ is one component."""
    boxes = ndimage.find_objects(tissue, max(LABELS.values()))
    for label in LABELS.values():
        box = boxes[label - 1]
        if box is None:
            continue
        pieces, count = ndimage.label(tissue[box] == label)
        if count > 1:
            largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
            slivers = (pieces > 0) & (pieces != largest)
            clean[box][slivers], tissue[box][slivers] = fat_hu, TISSUES["fat"]


def _paint(canvas: Canvas, patient: Patient) -> None:
    trunk = body.measure_trunk(canvas, patient)
    body.paint_trunk(canvas, patient, trunk)
    body.paint_back_muscles(canvas, patient)
    body.paint_lungs(canvas, patient, trunk)
    body.paint_ribs(canvas, patient, trunk)
    organs.paint_heart(canvas, patient, trunk)
    organs.paint_bowel(canvas, patient, trunk)
    organs.paint_mesentery(canvas, patient)
    organs.paint_spleen(canvas, patient, trunk)
    organs.paint_stomach(canvas, patient, trunk)
    organs.paint_pancreas(canvas, patient)
    organs.paint_liver(canvas, patient, trunk)
    organs.paint_gallbladder(canvas, patient, trunk)
    organs.paint_kidneys(canvas, patient)
    organs.paint_vessels(canvas, patient)
    body.paint_spine(canvas, patient)
    body.paint_pelvis(canvas, patient)
    body.paint_table(canvas, patient)


def scan_noise(patient: Patient, options: PhantomOptions) -> Array:
    """The noise of this patient's scan, HU."""
    rng = patient.rng("noise")
    level = np.float32(patient.noise_hu) * photon_loss(scanner_axes(options), patient.pose.shift)
    noise = np.empty(options.shape, np.float32)
    for slab in _split_into_slabs(options):
        slices = noise[:, :, slab].shape
        noise[:, :, slab] = level[:, :, None] * correlated_noise(rng, slices, options.voxel_mm)
    return noise


def _split_into_slabs(options: PhantomOptions) -> list[slice]:
    nx, ny, nz = options.shape
    thick = max(1, SLAB_VOXELS // (nx * ny))
    return [slice(start, min(start + thick, nz)) for start in range(0, nz, thick)]


def scanner_axes(options: PhantomOptions) -> tuple[Array, Array, Array]:
    """Voxel centres in mm along left, posterior and superior; 0 is the centre of the field of view."""
    x, y, z = (
        ((np.arange(size) - (size - 1) / 2) * step).astype(np.float32)
        for size, step in zip(options.shape, options.voxel_mm, strict=True)
    )
    return x, y, z


def _grid_affine(options: PhantomOptions) -> npt.NDArray[np.float64]:
    """Voxel index → RAS+ mm; the first two axes run towards left and posterior."""
    steps = np.array(options.voxel_mm) * (-1, -1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(options.shape) - 1) / 2
    return affine


def write_cohort(folder: Path, cases: int, seed: int, options: PhantomOptions | None = None) -> tuple[Path, Path]:
    """Write `cases` different patients as NIfTI.

    Returns:
        `folder/images` and `folder/labels`, each with `phantom_00.nii.gz`, `phantom_01.nii.gz`, …

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    images, labels = folder / "images", folder / "labels"
    with disk_errors(folder):
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
    with progress("making phantoms", cases, "scans") as bar:
        for case in range(cases):
            image, mask = make_phantom(cohort_seed(seed, case), options)
            name = f"phantom_{case:02d}.nii.gz"
            with disk_errors(images / name):
                nib.save(_to_nifti(image), images / name)
            write_mask(mask, labels / name)
            bar.advance()
    return images, labels


def _to_nifti(image: Volume) -> nib.Nifti1Image:
    nifti = nib.Nifti1Image(image.array, image.affine)
    nifti.header.set_xyzt_units("mm")
    return nifti


def cohort_seed(seed: int, case: int) -> int:
    """The seed of one case: cohorts of different seeds share no patient."""
    return int(np.random.SeedSequence([seed, case]).generate_state(1)[0])
