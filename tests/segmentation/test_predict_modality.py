"""A model of CT refuses scans of MR, those alone, and takes them where the person insists."""

from __future__ import annotations

import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import OptionError, ScanError
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.predictions import PREDICTIONS_FILE
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort


def _train(root, **more):
    images, labels = root / "images", root / "labels"
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store", **more))
    finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=2, device="cpu", precision="32"))


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """A folder with scans of CT and a model of them."""
    root = tmp_path_factory.mktemp("ct")
    write_cohort(root, 3, shape=(32, 32, 6))
    _train(root)
    return root


@pytest.fixture(scope="module")
def mixed(ct, tmp_path_factory):
    """Two of those scans, and one without HU."""
    folder = tmp_path_factory.mktemp("mixed")
    for case in ("scan_00", "scan_02"):
        shutil.copy(ct / "images" / f"{case}.nii.gz", folder)
    image, _ = tiny_scan(5, shape=(32, 32, 6))
    nib.save(nib.Nifti1Image((image + 1024).clip(0), AFFINE_LPS), folder / "scan_01.nii.gz")
    return folder


def test_the_scan_of_another_modality_is_refused_and_the_others_are_done(ct, mixed, tmp_path):
    wish = {"model": ct / "fit", "images": mixed, "out": tmp_path / "out", "device": "cpu"}
    with pytest.raises(ScanError, match="1 of 3 scans not segmented") as caught:
        predict(PredictOptions(**wish))
    assert "scan_01 is MR (values from 0" in caught.value.problem
    assert "the model was trained on CT" in caught.value.problem
    assert "scale all scans alike with --modality ct" in caught.value.problem
    assert sorted(json.loads((tmp_path / "out" / PREDICTIONS_FILE).read_text())["masks"]) == ["scan_00", "scan_02"]
    with pytest.raises(OptionError, match="--modality mr: .*fit was trained on CT"):
        predict(PredictOptions(**wish, modality="mr", resume="yes"))
    assert len(predict(PredictOptions(**wish, modality="ct", resume="yes"))) == 3


def test_a_model_that_learned_on_purpose_from_such_scans_takes_them(mixed, tmp_path):
    write_cohort(tmp_path, 3, shape=(32, 32, 6))
    for path in (tmp_path / "images").iterdir():
        shutil.copy(mixed / "scan_01.nii.gz", path)
    with pytest.warns(UserWarning, match="do not look like HU"):
        _train(tmp_path, modality="ct")
    predict(PredictOptions(model=tmp_path / "fit", images=mixed, out=tmp_path / "out", device="cpu"))


def test_a_model_made_before_goes_by_its_kind(ct, mixed, tmp_path):
    shutil.copytree(ct / "fit", tmp_path / "fit")
    spec = json.loads((tmp_path / "fit" / "model.json").read_text())
    assert spec["preprocessing"].pop("looks_like") == ["ct"]
    (tmp_path / "fit" / "model.json").write_text(json.dumps(spec))
    wish = {"model": tmp_path / "fit", "images": mixed, "device": "cpu"}
    with pytest.raises(ScanError, match="scan_01 is MR"):
        predict(PredictOptions(**wish, out=tmp_path / "out"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*HU")
        predict(PredictOptions(**wish, out=tmp_path / "ct", case=["scan_00", "scan_02"]))


def test_the_way_back(ct, mixed, tmp_path):
    write_cohort(tmp_path, 3, shape=(32, 32, 6))
    for i, path in enumerate(sorted((tmp_path / "images").iterdir())):
        image = nib.load(path)
        values = (np.asarray(image.dataobj) + 1024 + i).clip(0)
        nib.save(nib.Nifti1Image(values, image.affine), path)
    _train(tmp_path)
    with pytest.raises(ScanError, match="scan_00 is CT .values .* look like HU.; the model was trained on MR"):
        predict(PredictOptions(model=tmp_path / "fit", images=mixed, out=tmp_path / "out", device="cpu"))
    assert np.asarray(nib.load(tmp_path / "out" / "scan_01.nii.gz").dataobj).shape == (32, 32, 6)
