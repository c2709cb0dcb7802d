"""`frugalseg.load` of a SAM-Mix."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import frugalseg
from frugalseg.errors import OptionError


def test_a_sam_mix_gives_the_voxels_that_predict_writes(trained, cohort, tmp_path):
    scan = cohort / "images" / "scan_02.nii.gz"
    frugalseg.predict(model=trained, images=scan, out=tmp_path / "out", device="cpu", precision="32")
    model = frugalseg.load(trained, device="cpu", precision="32")
    expected = np.asarray(nib.load(tmp_path / "out" / "scan_02.nii.gz").dataobj)
    for found in (model.predict(scan), model.predict(nib.load(scan).get_fdata(), affine=nib.load(scan).affine)):
        assert np.array_equal(found.mask, expected)
        present = json.loads((tmp_path / "out" / "predictions.json").read_text())["present"]["scan_02"]
        for organ, values in present.items():
            assert np.allclose(found.presence[organ], values, atol=1e-4)
    assert np.any(expected)
    assert found.confidence == {}


def test_what_a_sam_mix_does_not_have_is_refused(trained, cohort):
    model = frugalseg.load(trained, device="cpu", precision="32")
    with pytest.raises(OptionError, match="no probabilities"):
        model.predict(cohort / "images" / "scan_02.nii.gz", probabilities=True)
    with pytest.raises(OptionError, match="SAM-Mix, which is not averaged"):
        frugalseg.load(trained, trained.with_name("other"))
    with pytest.raises(OptionError, match="--tta True: .* which does not use it"):
        frugalseg.load(trained, tta=True)
