"""Masks for tests: random blobs, and folders of tiny masks with what `frugalseg predict` notes beside them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SPACING = (0.9, 1.4, 3.0)
AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])
SHAPE = (20, 18, 10)


def blob(seed, shape=(24, 20, 12), share=0.15):
    """An irregular mask, several components and holes, that also touches the border for some seeds."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


def box(low, high, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


LIVER, SPLEEN = box((3, 4, 2), (11, 12, 8)), box((13, 5, 3), (17, 9, 7))


def labels(liver=LIVER, spleen=SPLEEN):
    array = np.zeros(SHAPE, np.uint8)
    array[spleen], array[liver] = 1, 6
    return array


def save(path: Path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def write_masks(root: Path, predicted, roles=None, **note):
    """References root/ref (always `labels()`) and predictions root/pred; predicted: case → labels or None."""
    for case, array in predicted.items():
        save(root / "ref" / f"{case}.nii.gz", labels())
        if array is not None:
            save(root / "pred" / f"{case}.nii.gz", array)
    if roles is not None:
        (root / "pred" / "predictions.json").write_text(json.dumps({"roles": roles, **note}))
    return root
