"""Organs whose validation Dice is 0 are named during the training, after it, and before a prediction."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation import validate
from frugalseg.segmentation.organ_dice import OrganWatch, select_organ_dice, warn_of_unlearned
from frugalseg.segmentation.task import FinetuneTask
from tests.scans import write_cohort


def said_by(call, *arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments)
    return [str(warning.message) for warning in caught]


def test_an_organ_is_named_once_and_only_in_the_second_half():
    watch = OrganWatch(["liver", "gland", "vein", "duct"], steps=100)
    figures = {"dice_liver": 0.8, "dice_gland": 0.0, "dice_vein": 0.0, "dice": 0.27, "score": 0.27}  # no duct anywhere
    assert said_by(watch.check, figures, 25) == said_by(watch.check, figures, 50) == []
    (first,) = said_by(watch.check, figures | {"dice_vein": 0.01}, 60)
    assert first.startswith("validation Dice is still 0 for gland after 60 of 100 steps. If it stays 0, train for more")
    (second,) = said_by(watch.check, figures, 70)
    assert second.startswith("validation Dice is still 0 for vein after 70 of 100 steps")
    assert said_by(watch.check, figures, 80) == []
    assert said_by(OrganWatch(["gland"], steps=100).check, figures, 100) == []  # said at the end
    assert said_by(OrganWatch(["gland"], steps=100).check, {}, 80) == []  # without validation


def test_no_claim_without_a_validation_scan_that_shows_the_organ():
    dice = select_organ_dice({"dice_liver": 0.5, "dice": 0.5}, ["liver", "gland"])
    assert dice == {"liver": 0.5}
    assert said_by(warn_of_unlearned, dice) == said_by(warn_of_unlearned, {}) == []


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, 5)
    return root


def make_store(cohort, name, fractions=(0.2, 0.2)):
    options = {"images": cohort / "images", "labels": cohort / "labels", "target": ["liver=6", "spleen=1"]}
    return prepare(PrepareOptions(**options, size=32, fractions=fractions, out=cohort / name))


def train(store, out, **more):
    options = {"budget": "100%", "preset": "robust", "batch_size": 2, "device": "cpu", "precision": "32", **more}
    return finetune(FinetuneOptions(data=store.folder, out=out, **options))


@pytest.fixture
def blind_to_spleen(monkeypatch):
    """Validation as if the network had labelled no voxel as spleen."""
    dice = validate.dice_per_class

    def without_spleen(predicted, reference, classes):
        return dice(np.where(predicted == 2, 0, predicted).astype(np.uint8), reference, classes)

    monkeypatch.setattr(validate, "dice_per_class", without_spleen)


def test_training_record_and_prediction_name_what_was_not_learned(cohort, tmp_path, blind_to_spleen):
    store = make_store(cohort, "store")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train(store, tmp_path / "run", steps=8, validate_every=2)
    said = [str(warning.message) for warning in caught if "validation Dice" in str(warning.message)]
    during = [text for text in said if "still 0" in text and "spleen" in text]
    assert [text.partition(". ")[0].split(" after ")[1] for text in during] == ["6 of 8 steps"]
    (after,) = (text for text in said if "has not learned" in text)
    assert "spleen" in after.partition(":")[0]
    assert "more --steps" in after
    assert "larger --size" in after

    record = SegmenterRecord.read_run(run.path)
    logged = next(r for r in run.read_records() if r["step"] == record.step)
    assert record.validation_dice_of_organs == {organ: logged[f"dice_{organ}"] for organ in ("liver", "spleen")}
    assert np.mean(list(record.validation_dice_of_organs.values())) == pytest.approx(record.validation_dice)
    assert "spleen" in record.unlearned_organs

    replace(record, validation_dice_of_organs={"liver": 0.7, "spleen": 0.0}).write(run.path / "model.json")
    options = PredictOptions(model=run.path, images=cohort / "images", case=["scan_00"], out=tmp_path / "masks")
    (warned,) = said_by(predict, options)
    assert warned.startswith("this model has not learned spleen (validation Dice 0): expect masks without it")
    other = replace(options, out=tmp_path / "liver", target=["liver=1"])
    assert said_by(predict, other) == []  # the spleen is not written


def test_the_record_has_the_dice_of_the_step_that_was_kept(cohort, tmp_path, monkeypatch):
    figures = iter([{"dice_liver": 0.5, "dice_spleen": 0.3, "score": 0.4}, {"dice_liver": 0.4, "score": 0.2}])
    monkeypatch.setattr(FinetuneTask, "validate", lambda _: next(figures))
    run = train(make_store(cohort, "kept"), tmp_path / "run", steps=4, validate_every=2)
    record = SegmenterRecord.read_run(run.path)
    assert (record.step, record.validation_dice_of_organs) == (2, {"liver": 0.5, "spleen": 0.3})


def test_without_validation_patients_nothing_is_claimed(cohort, tmp_path):
    run = train(make_store(cohort, "all", fractions=(0.0, 0.0)), tmp_path / "run", steps=2)
    assert json.loads((run.path / "model.json").read_text())["validation_dice_of_organs"] == {}
    said = said_by(
        predict, PredictOptions(model=run.path, images=cohort / "images", case=["scan_00"], out=tmp_path / "masks")
    )
    assert said == []
