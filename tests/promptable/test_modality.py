"""refine and propagate scale CT by a window and MR by percentiles, and refuse a mixture."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import ScanError
from frugalseg.options import PropagateOptions, RefineOptions
from frugalseg.propagation import engines
from frugalseg.propagation import propagate as propagating
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.refinement import refine as refining
from tests.promptable.fake import Bright
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort


@pytest.fixture(params=["refine", "propagate"])
def run(request, monkeypatch):
    """Either command on a folder of images, with masks next to it; returns its predictions.json."""
    for module in (refining, engines):
        monkeypatch.setattr(module, "load_promptable", lambda name, *_: Bright(signature=name, threshold=0.5))

    def work(root, out, **more):
        given = {"images": root / "images", "out": root / out, "device": "cpu", **more}
        if request.param == "refine":
            refining.refine(RefineOptions(masks=root / "labels", **given))
        else:
            propagating.propagate(PropagateOptions(annotations=root / "labels", slices="3", **given))
        return json.loads((root / out / PREDICTIONS_FILE).read_text())

    return work


@pytest.fixture
def cohort(tmp_path):
    write_cohort(tmp_path, 5, shape=(32, 32, 6))
    return tmp_path


def as_mr(path):
    image, _ = tiny_scan(int(path.name[5:7]), (32, 32, 6))
    nib.save(nib.Nifti1Image((image + 1024).clip(0), AFFINE_LPS), path)


def test_scans_are_shown_as_what_they_are(run, cohort):
    assert run(cohort, "ct")["promptable"]["shown"] == {"kind": "ct", "low": -160, "high": 240}
    record = run(cohort, "told", percentiles=(1.0, 99.0))
    assert record["promptable"]["shown"] == {"kind": "mr", "low": 1, "high": 99}
    assert record["settings"]["modality"] == "mr"
    for path in (cohort / "images").iterdir():
        as_mr(path)
    assert run(cohort, "mr")["promptable"]["shown"] == {"kind": "mr", "low": 0.5, "high": 99.5}


def test_a_mixture_is_refused_unless_it_is_said_what_it_is(run, cohort):
    as_mr(cohort / "images" / "scan_00.nii.gz")
    with pytest.raises(ScanError, match="scans of two modalities"):
        run(cohort, "out")
    assert not (cohort / "out").exists()
    assert len(run(cohort, "out", modality="mr")["masks"]) == 5


def test_an_odd_scan_is_refused_and_the_others_are_done(run, cohort):
    as_mr(cohort / "images" / "scan_01.nii.gz")
    with pytest.raises(ScanError, match="scan_01 is MR .values .*; the other scans are CT"):
        run(cohort, "out")
    assert len(json.loads((cohort / "out" / PREDICTIONS_FILE).read_text())["masks"]) == 4
    shutil.rmtree(cohort / "out")
    assert len(run(cohort, "out", case=["scan_00", "scan_02"])["masks"]) == 2


def test_label_values_are_untouched_by_the_choice(run, cohort):
    run(cohort, "auto")
    run(cohort, "said", modality="ct")
    for path in (cohort / "auto").glob("*.nii.gz"):
        pair = [np.asarray(nib.load(folder / path.name).dataobj) for folder in (cohort / "auto", cohort / "said")]
        assert np.array_equal(*pair)
