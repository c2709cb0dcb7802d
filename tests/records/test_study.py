"""The JSON files of a study, and those that versions before records wrote (fixtures/study)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugalseg.errors import RunError
from frugalseg.records.scan_index import MaskIndex
from frugalseg.records.study import GridRecord, JobState, StudyRecord, TableList

OLD = Path(__file__).parent / "fixtures" / "study"
FILES = {
    "grid.json": GridRecord,
    "study.json": StudyRecord,
    "job.json": JobState,
    "tables.json": TableList,
    "masks.json": MaskIndex,
}


@pytest.mark.parametrize(("name", "kind"), FILES.items())
def test_a_file_of_an_older_version_is_read_and_written_in_the_present_format(name, kind, tmp_path):
    assert "format" not in json.loads((OLD / name).read_text())
    record = kind.read(OLD / name)
    record.write(tmp_path / name)
    assert json.loads((tmp_path / name).read_text())["format"] == kind.FORMAT
    assert kind.read(tmp_path / name) == record


def test_older_cells_are_converted_to_trials():
    cells = {cell["id"]: cell for cell in json.loads((OLD / "grid.json").read_text())["cells"]}
    grid = GridRecord.read(OLD / "grid.json")
    assert {trial.id for trial in grid.trials} == cells.keys()
    for trial in grid.trials:
        cell = cells[trial.id]
        assert trial.uses_test_references == cell["guided"]
        assert (list(trial.draws), list(trial.seeds)) == (cell["draws"], cell["seeds"])
        assert trial.annotation == cell["annotation"]
        expected = [(cell["semi"], cell["folder"])] if cell["folder"] else []
        assert [(model.semi, model.folder) for model in trial.models] == expected
        assert trial.tests == cell["tests"]
    assert sum(trial.uses_test_references for trial in grid.trials) == 3
    assert sum(model.pretrain is not None for trial in grid.trials for model in trial.models) == 1
    assert grid.tests[0].patients == {"scan_02": "scan_02"}


def test_cells_from_before_equal_draws_and_follow_ups_stand_for_themselves(tmp_path):
    content = json.loads((OLD / "grid.json").read_text())
    for cell in content["cells"]:
        for key in ("draws", "seeds", "guided", "annotation", "semi"):
            del cell[key]
    (tmp_path / "grid.json").write_text(json.dumps(content))
    for trial in GridRecord.read(tmp_path / "grid.json").trials:
        assert (trial.draws, trial.seeds) == ((trial.draw,), (trial.seed,))
        assert (trial.uses_test_references, trial.annotation) == (False, None)
        assert all(model.semi == "" for model in trial.models)


def test_the_former_name_of_jobs_is_converted():
    assert StudyRecord.read(OLD / "study.json").jobs == json.loads((OLD / "study.json").read_text())["at_once"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda grid: grid["cells"][0].pop("method"), "it has no 'trials[0].method'"),
        (lambda grid: grid["cells"][0].update(draw="0"), "draw"),
        (lambda grid: grid.pop("cells"), "cells"),
        (lambda grid: grid.update(format=99), "has format 99"),
    ],
)
def test_a_damaged_grid_is_named_with_what_is_wrong(tmp_path, change, told):
    content = json.loads((OLD / "grid.json").read_text())
    change(content)
    (tmp_path / "grid.json").write_text(json.dumps(content))
    with pytest.raises(RunError) as caught:
        GridRecord.read(tmp_path / "grid.json")
    assert told in str(caught.value)
    assert "grid.json" in str(caught.value)


def test_an_unknown_state_is_refused(tmp_path):
    (tmp_path / "job.json").write_text('{"state": "gone"}')
    with pytest.raises(RunError, match="'state'"):
        JobState.read(tmp_path / "job.json")
