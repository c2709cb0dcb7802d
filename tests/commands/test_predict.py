"""`predict --refine`: masks as predicted, and refined, from one command."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import OptionError, RunError, ScanError
from frugalseg.imaging.formats import list_visible
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.refinement import refine as refining
from frugalseg.segmentation.predict import segment_scans as predict_coarse
from tests.promptable.fake import Bright
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with scans and a model of their liver, with a window from −100 to 200 HU."""
    root = tmp_path_factory.mktemp("refined")
    images, labels = write_cohort(root, 4, shape=(32, 32, 4))
    shown = {"size": 32, "window": (-100.0, 200.0)}
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], out=root / "store", **shown))
    finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=30, device="cpu", precision="32"))
    return root


@pytest.fixture
def model(trained, monkeypatch):
    """The same, where every promptable model segments everything above 50 HU."""
    monkeypatch.setattr(refining, "load_promptable", lambda name, *_: Bright(signature=name, threshold=0.5))
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", lambda name: name)
    return trained


def options(root, out, **more):
    return PredictOptions(model=root / "fit", images=root / "images", out=out, device="cpu", precision="32", **more)


def mask(folder, case="scan_01"):
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def read_record(folder):
    return json.loads((folder / PREDICTIONS_FILE).read_text())


def test_without_refine_nothing_is_refined(model, tmp_path):
    predict(options(model, tmp_path / "out"))
    files = [path.name for path in list_visible(tmp_path / "out")]
    cases = [f"scan_{i:02d}" for i in range(4)]
    made = [f"{case}.{ending}" for case in cases for ending in ("nii.gz", "slices.csv")]
    assert files == ["confidence.csv", PREDICTIONS_FILE, *made, "statistics.csv", "statistics.json"]


def test_coarse_and_refined_masks_are_both_written(model, tmp_path):
    out = tmp_path / "out"
    written = predict(options(model, out, refine="litemedsam"))
    plain = predict_coarse(options(model, tmp_path / "plain"))
    assert {case: path.parent for case, path in written.items()} == dict.fromkeys(plain, out)
    for case in plain:
        assert np.array_equal(mask(out / "coarse", case), mask(tmp_path / "plain", case))
    assert any(not np.array_equal(mask(out, case), mask(out / "coarse", case)) for case in plain)
    note, coarse = read_record(out), read_record(out / "coarse")
    assert note["method"] == "refine"
    assert note["promptable"]["shown"] == {"kind": "ct", "low": -100, "high": 200}  # as in training
    assert (note["roles"], note["model"], note["targets"]) == (coarse["roles"], coarse["model"], coarse["targets"])
    with pytest.raises(RunError, match="in use"):
        predict(options(model, out, refine="litemedsam"))
    predict(options(model, out, refine="litemedsam", overwrite=True))


def test_an_interrupted_refinement_predicts_nothing_again(model, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def dying(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("frugalseg.refinement.refiner.Refiner.refine", dying)
        with pytest.raises(KeyboardInterrupt):
            predict(options(model, out, refine="litemedsam"))
    before = {path: path.stat().st_mtime_ns for path in (out / "coarse").glob("*.nii.gz")}
    assert len(before) == 4
    assert len(predict(options(model, out, refine="litemedsam", resume="yes"))) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def broken(model, tmp_path):
    """The scans, of which the third cannot be read."""
    images = tmp_path / "images"
    images.mkdir()
    for path in (model / "images").iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "scan_02.nii.gz").write_bytes(b"no scan")
    return images


@pytest.mark.parametrize(
    ("named", "refined"),
    [([], [0, 1, 3]), (["scan_00", "scan_02"], [0]), (["scan_02", "scan_03", "scan_00"], [0, 3])],
)
def test_a_broken_scan_is_reported_after_the_others_are_refined(model, broken, tmp_path, named, refined):
    out = tmp_path / "out"
    given = vars(options(model, out, refine="litemedsam", case=named)) | {"images": broken}
    with pytest.raises(ScanError, match=f"1 of {len(refined) + 1} scans not segmented, the others are in"):
        predict(PredictOptions(**given))
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"scan_{i:02d}.nii.gz" for i in refined]
    assert list(read_record(out)["failed"]) == ["scan_02"]


def test_resume_predicts_and_refines_only_the_repaired_scan(model, broken, tmp_path):
    out = tmp_path / "out"
    given = PredictOptions(**vars(options(model, out, refine="litemedsam")) | {"images": broken})
    with pytest.raises(ScanError) as caught:
        predict(given)
    assert "command with --resume" in caught.value.cure
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    (broken / "scan_02.nii.gz").write_bytes((model / "images" / "scan_02.nii.gz").read_bytes())
    assert len(predict(replace(given, resume="yes"))) == 4
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert before.items() <= after.items()
    assert {path.name for path in after.keys() - before.keys()} == {"scan_02.nii.gz"}
    assert read_record(out)["failed"] == read_record(out / "coarse")["failed"] == {}


def test_a_file_as_output_folder_is_refused(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"--out .*file is a file"):
        predict(options(model, tmp_path / "file", refine="litemedsam"))


def test_an_error_if_every_scan_is_broken(model, broken, tmp_path):
    given = vars(options(model, tmp_path / "out", refine="litemedsam", case=["scan_02"])) | {"images": broken}
    with pytest.raises(ScanError, match="1 of 1 scan not segmented:"):
        predict(PredictOptions(**given))


def test_the_mask_of_an_older_prediction_is_not_refined(model, broken, tmp_path):
    out = tmp_path / "out"
    predict(options(model, out, refine="litemedsam"))
    given = vars(options(model, out, refine="litemedsam", overwrite=True)) | {"images": broken}
    with pytest.raises(ScanError, match="1 of 4 scans not segmented"):
        predict(PredictOptions(**given))
    assert list(read_record(out)["masks"]) == ["scan_00", "scan_01", "scan_03"]


def test_missing_files_are_reported_before_prediction(trained, tmp_path):
    with pytest.raises(OptionError, match="unknown weights 'nothing'"):
        predict(options(trained, tmp_path / "out", refine="nothing"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ScanError, match="does not exist"):
        predict(PredictOptions(model=trained / "fit", images=tmp_path / "none", out=tmp_path / "out", device="cpu"))


def test_segmenting_without_refinement_refuses_refine(trained, tmp_path):
    with pytest.raises(AssertionError, match="refined masks"):
        predict_coarse(options(trained, tmp_path / "out", refine="litemedsam"))
