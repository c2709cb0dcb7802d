"""Probabilities and uncertainty as files."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.segmentation.probability_maps import ProbabilityMaps, uncertainty
from tests.imaging.scans import make_affine


def test_uncertainty_is_0_where_one_class_is_sure_and_1_where_all_are_alike() -> None:
    p = torch.tensor([[0.0, 1.0, 0.25, 0.5], [0.0, 0.0, 0.25, 0.0], [0.0, 0.0, 0.25, 0.0]])[:, None]
    assert uncertainty(p).numpy() == pytest.approx(np.array([[0, 0, 1, 0.5]]), abs=1e-6)


@pytest.mark.parametrize("orientation", [0, 13, 40])
def test_other_programs_read_the_probabilities_at_their_place(tmp_path, orientation) -> None:
    rng = np.random.default_rng(0)
    scan = Volume(np.zeros((5, 6, 7), np.int16), make_affine(orientation, (1, 2, 3), origin=(4, 5, 6)))
    upright, way = canonical(scan)
    stack = axial_slices(upright.array)
    both = rng.dirichlet((1, 1, 1), stack.shape).astype(np.float32)
    maps = ProbabilityMaps(2, stack.shape)
    for chunk in (slice(0, 3), slice(3, 9)):
        maps.add(chunk, torch.from_numpy(np.moveaxis(both[chunk], -1, 1)[:, 1:].copy()))
    files = maps.to_files("p1", ["liver", "right kidney"], [True, True], scan, way)
    assert sorted(files) == [f"probabilities/p1.{name}.nii.gz" for name in ("liver", "right_kidney", "uncertainty")]
    assert len(maps.to_files("p1", ["liver", "spleen"], [False, True], scan, way)) == 2
    path = tmp_path / "p.nii.gz"
    path.write_bytes(files["probabilities/p1.right_kidney.nii.gz"])
    image = nib.load(path)
    assert np.allclose(image.affine, scan.affine)
    expected = way.undo(axial_slices(both[..., 2]))
    assert np.abs(image.get_fdata() - expected).max() <= 0.5 / 255 + 1e-6
    assert np.abs(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T - expected).max() <= 0.5 / 255 + 1e-6
    assert gzip.decompress(path.read_bytes())[70:72] == b"\x02\x00"  # unsigned 8-bit integers
