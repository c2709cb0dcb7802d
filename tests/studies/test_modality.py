"""What a plan says of its test scans is said to the models, and an encoder never sees other intensities."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import OptionError
from frugalseg.studies.jobs.datasets import resolve_datasets
from frugalseg.studies.jobs.grid import build_grid
from frugalseg.studies.jobs.runner import run_job
from frugalseg.studies.plan.reader import read_plan
from tests.studies.plans import PLAN, write_plan

AWAY = "away/labels, target: [liver=6]"


@pytest.fixture
def folder(tmp_path):
    write_plan(tmp_path)
    return tmp_path


def grid_of(folder, *replacements):
    text = PLAN
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    plan = read_plan(write_plan(folder, text, scans=False))
    datasets = resolve_datasets(plan, folder / "grid")
    for source in datasets.values():
        assert run_job(source.job, folder / "grid", threads=1).state == "done"
    return build_grid(plan, datasets, folder / "grid", threads=1).trials


def modalities(trials):
    return {test.name: test.make.modality for test in trials[0].job.tests}


def test_models_take_test_scans_as_the_plan_says(folder):
    assert modalities(grid_of(folder)) == {"held out": "auto", "away": "auto"}
    # The plan crosses the modalities on purpose: the model's own is insisted on.
    assert modalities(grid_of(folder, (AWAY, f"{AWAY}, modality: mr"))) == {"held out": "auto", "away": "ct"}


def test_an_encoder_of_other_intensities_is_found_before_it_is_trained(folder):
    for path in (folder / "away" / "images").iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image((np.asarray(image.dataobj) + 1024).clip(0), image.affine), path)
    with pytest.raises(OptionError, match="away is scaled by mr 0.5…99.5, tiny by ct -160…240"):
        grid_of(folder, ("method: polycl-s}}", "method: polycl-s, data: away}}"))
