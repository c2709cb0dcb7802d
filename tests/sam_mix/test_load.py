"""`frugalseg.load` of a SAM-Mix."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

import frugalseg
from frugalseg.errors import OptionError
from frugalseg.records.sam_mix import SamMixRecord
from frugalseg.sam_mix.checkpoint import load_mix


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


def test_models_of_before_the_finer_map_keep_their_own(trained, tmp_path):
    older = shutil.copytree(trained, tmp_path / "older")
    record = json.loads((older / "model.json").read_text())
    assert record["settings"].pop("map_stride") == 16
    (older / "model.json").write_text(json.dumps(record))
    networks = [load_mix(run, SamMixRecord.read_run(run), None, torch.device("cpu")) for run in (trained, older)]
    assert [one.classifier.maps(torch.zeros(1, 1, 64, 64)).shape[-1] for one in networks] == [4, 2]


def test_what_a_sam_mix_does_not_have_is_refused(trained, cohort):
    model = frugalseg.load(trained, device="cpu", precision="32")
    with pytest.raises(OptionError, match="no probabilities"):
        model.predict(cohort / "images" / "scan_02.nii.gz", probabilities=True)
    with pytest.raises(OptionError, match="SAM-Mix, which is not averaged"):
        frugalseg.load(trained, trained.with_name("other"))
    with pytest.raises(OptionError, match="--tta True: .* which does not use it"):
        frugalseg.load(trained, tta=True)
