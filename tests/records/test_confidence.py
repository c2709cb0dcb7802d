"""Confidence in predictions.json and its calibration in model.json: unchanged by writing and reading, checked."""

from __future__ import annotations

import json

import pytest

from frugalseg.errors import PairingError, RunError
from frugalseg.records.confidence import OrganCalibration, OrganConfidence, Promise, SliceConfidence
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import CaseRecord, PredictionRecord
from tests.records.files import old_file

SLICES = SliceConfidence((3, 4), (0.9, 0.25), (0.8, 0.1), (0.5, 0.0))
OWN = OrganConfidence("probabilities", 0.91, 0.85, None, SLICES)
RANKED = OrganConfidence("propagation", 0.7, None, None, SliceConfidence((0, 1), (0.5, 0.9)))
CALIBRATION = OrganCalibration(0.9, 2, "core", Promise(2, 1.25, None, None), Promise(71, 0.8, 4.5, 2 / 3), "sam:1")


def test_predictions_keep_the_confidence_of_each_scan(tmp_path):
    record = PredictionRecord(roles=None).with_case("a", CaseRecord(confidence={"liver": OWN, "spleen": RANKED}))
    record.write(tmp_path / "predictions.json")
    assert PredictionRecord.read(tmp_path / "predictions.json") == record
    assert record.select_case("a").confidence == {"liver": OWN, "spleen": RANKED}
    assert record.select_cases([]).confidence == {}


def test_a_model_keeps_its_calibration_and_one_of_an_earlier_version_has_none(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(old_file("segmenter.model")))
    old = SegmenterRecord.read(path)
    assert old.calibration == {}
    path.write_text(json.dumps({**old.to_json(), "calibration": {"agreement": {"liver": to_json(CALIBRATION)}}}))
    record = SegmenterRecord.read(path)
    assert record.calibration == {"agreement": {"liver": CALIBRATION}}
    record.write(path)
    assert SegmenterRecord.read(path) == record


def to_json(calibration):
    plain = {name: getattr(calibration, name) for name in ("level", "patients", "keep", "refined_by")}
    return {**plain, "scans": vars(calibration.scans), "slices": vars(calibration.slices)}


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ({"slice": [1, 2], "confidence": [0.5]}, "2 slices, but 1 values of confidence"),
        ({"slice": [1], "confidence": [0.5], "lower_bound": [0.1, 0.2]}, "1 slices, but 2 values of lower_bound"),
    ],
)
def test_lists_of_different_lengths_are_damage(tmp_path, slices, told):
    own = {"source": "agreement", "confidence": 0.5, "expected_dice": None, "lower_bound": None, "slices": slices}
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"roles": None, "confidence": {"a": {"liver": own}}}))
    with pytest.raises(PairingError, match=told):
        PredictionRecord.read(path)


@pytest.mark.parametrize("change", [{"level": 1.5}, {"patients": 0}, {"keep": "some"}])
def test_an_impossible_calibration_is_damage(tmp_path, change):
    content = old_file("segmenter.model", calibration={"probabilities": {"liver": {**to_json(CALIBRATION), **change}}})
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"model.json is damaged"):
        SegmenterRecord.read(tmp_path / "model.json")
