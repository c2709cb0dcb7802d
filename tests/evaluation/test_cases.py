"""One scan's two masks: whatever axes and units their headers have, the figures are those of the voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.evaluation.cases import CaseJob, CaseResult, compare_case
from tests.evaluation.blobs import blob, save
from tests.imaging.scans import ORIENTATIONS, make_affine

REFERENCE, PREDICTION = blob(1).astype(np.uint8), blob(2).astype(np.uint8)
STRAIGHT = make_affine(0, (2, 2, 3))


def judged(folder: Path, affine=STRAIGHT, reference=None, annotated=()) -> CaseResult:
    """Figures of the two blobs; `reference` is another image of the reference, if given."""
    save(folder / "a.nii.gz", PREDICTION, affine)
    nib.save(reference or nib.Nifti1Image(REFERENCE, affine), folder / "b.nii.gz")
    job = CaseJob("c", "all", folder / "b.nii.gz", folder / "a.nii.gz", {"x": (1,)}, 3.1, True, 1, annotated)
    return compare_case(job)


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_a_reference_with_other_axes_gives_the_same_figures(tmp_path, orientation):
    expected = judged(tmp_path, annotated=(3, 4)).rows
    order, signs = ORIENTATIONS[orientation]
    turned = nib.Nifti1Image(REFERENCE, STRAIGHT).as_reoriented(np.array(list(zip(order, signs, strict=True)), float))
    assert judged(tmp_path, reference=turned, annotated=(3, 4)).rows == expected


@pytest.mark.parametrize("angles", [(45, 0, 0), (0, 45, 0), (0, 0, 45), (-45, 0, 0)])
@pytest.mark.parametrize("by", [-1e-5, 1e-5])
def test_at_45_degrees_the_annotated_slices_of_both_are_those_of_the_file(tmp_path, angles, by):
    """The headers lie on the two sides of 45°, where rounding would name the axes otherwise for each."""
    one, other = (make_affine(0, (2, 2, 3), [a + b * np.sign(a) for a in angles]) for b in (-by, by))
    row = judged(tmp_path, one, nib.Nifti1Image(REFERENCE, other), annotated=(5,)).rows[0]
    a, b = (np.delete(mask, 5, axis=2) > 0 for mask in (REFERENCE, PREDICTION))
    assert row["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(("unit", "mm"), [("micron", 0.001), ("meter", 1000.0)])
def test_distances_and_volumes_are_in_mm_whatever_the_unit_of_the_headers(tmp_path, unit, mm):
    expected = judged(tmp_path).rows[0]
    affine = np.diag([1 / mm] * 3 + [1]) @ STRAIGHT
    for name, array in (("a", PREDICTION), ("b", REFERENCE)):
        image = nib.Nifti1Image(array, affine)
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    job = CaseJob("c", "all", tmp_path / "b.nii.gz", tmp_path / "a.nii.gz", {"x": (1,)}, 3.1, True, 1)
    row = compare_case(job).rows[0]
    for figure in ("dice", "hd95_mm", "assd_mm", "nsd", "volume_reference_ml"):
        assert row[figure] == pytest.approx(expected[figure], rel=1e-5), figure
