"""Tiny scans for tests: an ellipsoid of liver density in a body of fat, in any orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE_LPS = np.array([[-4.0, 0, 0, 60], [0, -4.0, 0, 70], [0, 0, 5.0, -40], [0, 0, 0, 1]])


def tiny_scan(seed=0, shape=(32, 32, 12)):
    """Image in HU (int16) and labels (uint8; liver 6, spleen 1), both (X, Y, Z) with LPS axes."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body = x**2 + y**2 < 0.8
    centre = rng.uniform(-0.15, 0.15, 3)
    liver = ((x + 0.3 - centre[0]) / 0.35) ** 2 + ((y - centre[1]) / 0.4) ** 2 + ((z - centre[2]) / 0.6) ** 2 < 1
    spleen = ((x - 0.5) / 0.2) ** 2 + ((y - 0.2) / 0.2) ** 2 + (z / 0.4) ** 2 < 1
    image = np.where(body, -80.0, -1000.0)
    image[liver], image[spleen] = 110, 60
    image = (image + rng.normal(0, 12, shape)).round().clip(-1024, 1500).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    labels[spleen], labels[liver] = 1, 6
    return image, labels


def write_cohort(folder: Path, cases: int, shape=(32, 32, 12), labelled: int | None = None) -> tuple[Path, Path]:
    """`cases` scans scan_00, scan_01, … as NIfTI, of which the first `labelled` have masks."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    for i in range(cases):
        image, mask = tiny_scan(i, shape)
        nib.save(nib.Nifti1Image(image, AFFINE_LPS), images / f"scan_{i:02d}.nii.gz")
        if labelled is None or i < labelled:
            nib.save(nib.Nifti1Image(mask, AFFINE_LPS), labels / f"scan_{i:02d}.nii.gz")
    return images, labels
