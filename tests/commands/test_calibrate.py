"""Calibrating a finished model: on which scans, of which masks, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from frugalseg.cli import main
from frugalseg.commands.calibrate import calibrate
from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.confidence.overlap import compare
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import OptionError
from frugalseg.evaluation.cases import read_pair
from frugalseg.options import CalibrateOptions, FinetuneOptions, PredictOptions, PrepareOptions, RefineOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.refinement.refine import refine
from tests.promptable.fake import Bright
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}
PREPARED = {"target": ["liver=6"], "size": 32, "window": (-100.0, 200.0)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four scans with a model (two for training, one for validation, one for test), and ten of another hospital."""
    root = tmp_path_factory.mktemp("calibrate")
    for name, cases in (("here", 4), ("there", 14)):
        write_cohort(root / name, cases, shape=(32, 32, 8))
    for case in range(4):  # else the first ones would be the same scans
        for kind in ("images", "labels"):
            (root / "there" / kind / f"scan_{case:02d}.nii.gz").unlink()
    split = {"train": ["scan_00", "scan_01"], "validation": ["scan_02"], "test": ["scan_03"]}
    (root / "split.json").write_text(json.dumps(split))
    for name in ("here", "there"):
        folders = {"images": root / name / "images", "labels": root / name / "labels", "out": root / f"{name}-store"}
        prepare(PrepareOptions(**folders, **PREPARED, split=root / "split.json" if name == "here" else None))
    finetune(FinetuneOptions(data=root / "here-store", out=root / "fit", steps=60, budget="2 scans", **EXACT))
    return root


@pytest.fixture
def model(root, tmp_path):
    """A copy of the model."""
    shutil.copytree(root / "fit", tmp_path / "fit")
    return tmp_path / "fit"


@pytest.fixture
def bright(monkeypatch):
    """A promptable model that finds what is bright in its box."""

    def load(name, *_):
        return Bright(signature=name, threshold=0.5)

    monkeypatch.setattr("frugalseg.refinement.pseudo_labels.load_promptable", load)
    monkeypatch.setattr("frugalseg.refinement.refine.load_promptable", load)
    monkeypatch.setattr("frugalseg.promptable.load.resolve_name", lambda name: name)
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", lambda name: name)


def options(root, model, store="here-store", **more):
    return CalibrateOptions(model=model, data=root / store, **EXACT, **more)


def read(out) -> PredictionRecord:
    return PredictionRecord.read(out / PREDICTIONS_FILE)


def test_a_model_of_an_earlier_version_gets_the_calibration_that_training_gives(root, model):
    trained = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({k: v for k, v in trained.items() if k != "calibration"}))
    weights = (model / "model.safetensors").read_bytes()
    calibrate(options(root, model))
    assert json.loads((model / "model.json").read_text()) == trained
    assert (model / "model.safetensors").read_bytes() == weights


def test_ten_patients_that_the_model_does_not_know_give_a_bound_for_scans(root, model, tmp_path, capsys):
    words = ["calibrate", "--model", str(model), "--data", str(root / "there-store"), "--device", "cpu"]
    assert main([*words, "--precision", "32"]) == 0
    told = capsys.readouterr().err
    assert "calibrating on 10 scans of 10 patients" in told
    assert "predicted  liver  10        in 91% of patients" in told
    own = SegmenterRecord.read_run(model).calibration["probabilities"]["liver"]
    assert own.scans.holds_for == pytest.approx(10 / 11)
    predict(PredictOptions(model=model, images=root / "here" / "images", out=tmp_path / "out", **EXACT))
    assert "no lower bound" not in capsys.readouterr().err
    for organs in read(tmp_path / "out").confidence.values():
        assert 0 <= organs["liver"].lower_bound <= organs["liver"].expected_dice <= 1


def test_training_and_test_patients_are_not_used(root, model):
    """Their labels would make the calibration better than the truth, or use up the test."""
    before = SegmenterRecord.read_run(model).calibration
    assert before["probabilities"]["liver"].patients == 1
    calibrate(options(root, model))
    assert SegmenterRecord.read_run(model).calibration == before
    content = json.loads((model / "model.json").read_text())
    for scan in content["scans"]:
        scan["role"] = "train" if scan["role"] == "validation" else scan["role"]
    (model / "model.json").write_text(json.dumps(content))
    with pytest.raises(OptionError, match="no labelled scan that the model was not trained on"):
        calibrate(options(root, model))


def test_a_training_scan_that_was_changed_on_the_way_is_not_used(root, model, tmp_path, capsys):
    """It has other voxels, but its name."""
    images, labels = write_cohort(tmp_path / "again", 2, shape=(32, 32, 10))
    for folder in (images, labels):
        shutil.copy(root / "there" / folder.name / "scan_09.nii.gz", folder / "new.nii.gz")
    prepare(PrepareOptions(images=images, labels=labels, out=tmp_path / "store", **PREPARED))
    calibrate(CalibrateOptions(model=model, data=tmp_path / "store", **EXACT))
    assert "calibrating on 1 scan of 1 patient" in capsys.readouterr().err


def test_a_store_that_was_prepared_differently_is_refused(root, model, tmp_path):
    folders = {"images": root / "there" / "images", "labels": root / "there" / "labels"}
    for name, change in (("size", {"size": 48}), ("intensities", {"window": (0.0, 100.0)}), ("organs", {})):
        prepared = {**PREPARED, **change} if change else {**PREPARED, "target": ["spleen=1"]}
        prepare(PrepareOptions(**folders, **prepared, out=tmp_path / name))
        with pytest.raises(OptionError, match=f"its {name} are"):
            calibrate(CalibrateOptions(model=model, data=tmp_path / name, **EXACT))


def test_refined_masks_are_calibrated_by_their_agreement_with_the_input(root, model, tmp_path, bright, capsys):
    """The stored mean against the masks and references of the calibration scans themselves."""
    there = root / "there"
    predict(PredictOptions(model=model, images=there / "images", out=tmp_path / "before", refine="mine", **EXACT))
    assert "refined masks of this model were not calibrated" in capsys.readouterr().err
    assert all(own["liver"].expected_dice is None for own in read(tmp_path / "before").confidence.values())

    calibrate(options(root, model, "there-store", refine="mine"))
    own = SegmenterRecord.read_run(model).calibration["agreement"]["liver"]
    doubt, shortfall = [], []
    for case in read(tmp_path / "before").masks:
        refined, coarse = read_pair(
            case, tmp_path / "before" / f"{case}.nii.gz", tmp_path / "before" / "coarse" / f"{case}.nii.gz"
        )
        reference, _ = read_pair(case, there / "labels" / f"{case}.nii.gz", tmp_path / "before" / f"{case}.nii.gz")
        masks = [np.moveaxis(v.array == 6, 2, 0).astype(np.uint8) for v in (refined, coarse, reference)]
        doubt.append(max(0.005, 1 - compare(masks[0], masks[1], 1)[0].dice_of_scan()))
        shortfall.append(1 - compare(masks[0], masks[2], 1)[0].dice_of_scan())
    assert own.scans.expected == pytest.approx(sum(shortfall) / sum(doubt), rel=0.05)
    assert own.refined_by == "mine"
    capsys.readouterr()

    predict(PredictOptions(model=model, images=there / "images", out=tmp_path / "after", refine="mine", **EXACT))
    record = read(tmp_path / "after")
    assert all(organs["liver"].source == "agreement" for organs in record.confidence.values())
    assert all(organs["liver"].lower_bound is not None for organs in record.confidence.values())
    assert (tmp_path / "after" / "confidence.csv").is_file()
    assert {case: own["liver"].confidence for case, own in record.confidence.items()} == {
        case: own["liver"].confidence for case, own in read(tmp_path / "before").confidence.items()
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": "other"}, "were not calibrated"), ({"min_iou": 0.2}, "calibrated with another --min-iou")],
)
def test_masks_refined_differently_get_no_promise(root, model, tmp_path, bright, capsys, change, said):
    calibrate(options(root, model, refine="mine"))
    images = root / "here" / "images"
    predict(PredictOptions(model=model, images=images, out=tmp_path / "coarse", case=["scan_03"], **EXACT))
    capsys.readouterr()
    refining = {"images": images, "masks": tmp_path / "coarse", "out": tmp_path / "out", "model": "mine", **EXACT}
    refine(RefineOptions(**(refining | change)))
    assert said in capsys.readouterr().err
    assert read(tmp_path / "out").confidence["scan_03"]["liver"].expected_dice is None
