"""predictions.json: the files of every command that makes masks are read, and older ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from frugalseg.errors import PairingError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.predictions import (
    PREDICTIONS_FILE,
    CaseRecord,
    InputMask,
    OrganRefinement,
    PredictionRecord,
    Propagation,
)
from tests.records.files import FORMAT_0, old_file

MADE_BY = ("predicted", "sam-mix-predicted", "refined", "refined-labels", "propagated")


def old(name: str) -> PredictionRecord:
    return PredictionRecord.read(FORMAT_0 / f"{name}.predictions.json")


@pytest.mark.parametrize("name", MADE_BY)
def test_a_file_without_a_format_is_read_and_written_in_the_present_one(tmp_path, name):
    record = old(name)
    record.write(tmp_path / PREDICTIONS_FILE)
    assert PredictionRecord.read_beside(tmp_path) == record
    content = json.loads((tmp_path / PREDICTIONS_FILE).read_text())
    assert content["format"] == PredictionRecord.FORMAT
    before = old_file(f"{name}.predictions")
    for scan in before.get("propagation", {}).values():
        scan["propagated_slices"] = scan.pop("carried_slices")
    assert {key: content[key] for key in before} == before  # nothing is lost


def test_the_values_of_each_command():
    predicted = old("predicted")
    assert (predicted.model, predicted.method, predicted.promptable) == ("/data/segmenter", None, None)
    assert predicted.targets == {"liver": (6,), "spleen": (1,)}
    assert predicted.select_case("scan_02").role == "test"
    mixed = old("sam-mix-predicted")
    assert mixed.trained == {"liver": (6,), "spleen": (1,)}
    assert len(mixed.present["scan_00"]["liver"]) == 6
    refined = old("refined-labels")
    assert refined.promptable is not None
    assert refined.promptable.shown == IntensityScale("ct", -160, 240)
    assert refined.roles is None
    assert isinstance(refined.select_case("scan_00").given, InputMask)
    assert isinstance(refined.refinement["scan_00"].organs["label 6"], OrganRefinement)
    propagated = old("propagated").select_case("scan_00").propagation
    assert isinstance(propagated, Propagation)
    assert propagated.slices == (0, 5)


def test_entries_of_one_scan_are_added_to_the_others():
    start = PredictionRecord(roles={}, masks={"a": "a.nii.gz"})
    both = start.with_case("b", CaseRecord(mask="b.nii.gz", role="test"))
    assert both.masks == {"a": "a.nii.gz", "b": "b.nii.gz"}
    assert both.roles == {"b": "test"}
    assert both.select_case("b") == CaseRecord(mask="b.nii.gz", role="test")
    assert start.masks == {"a": "a.nii.gz"}
    assert both.select_cases(["b"]) == replace(both, masks={"b": "b.nii.gz"})


def test_without_a_known_model_there_are_no_roles():
    record = PredictionRecord(roles=None).with_case("a", CaseRecord(annotated=(2,)))
    assert record.roles is None
    assert record.annotated == {"a": (2,)}
    assert record.select_cases([]).roles is None


def test_a_folder_without_a_record(tmp_path):
    assert PredictionRecord.read_beside(tmp_path) is None
    PredictionRecord(roles={}).write(tmp_path / PREDICTIONS_FILE)
    (tmp_path / "a.nii.gz").touch()
    assert PredictionRecord.read_beside(tmp_path / "a.nii.gz") == PredictionRecord(roles={})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"roles": 3}, "'roles': expected"),
        ({"masks": {"a": 1}}, "'masks[...]': expected a text, got a whole number"),
        ({"annotated": {"a": [0.5]}}, "expected a whole number, got a number"),
        ({"method": "guess"}, "'method': invalid enum value 'guess'"),
    ],
)
def test_faults_are_named(tmp_path, change, told):
    (tmp_path / PREDICTIONS_FILE).write_text(json.dumps(old_file("predicted.predictions", **change)))
    with pytest.raises(PairingError, match="is damaged") as error:
        PredictionRecord.read_beside(tmp_path)
    assert told in error.value.problem
    assert str(tmp_path / PREDICTIONS_FILE) in error.value.problem


def test_a_record_without_roles_is_damaged(tmp_path):
    (tmp_path / PREDICTIONS_FILE).write_text("{}")
    with pytest.raises(PairingError, match="it has no 'roles'"):
        PredictionRecord.read_beside(tmp_path)
