from __future__ import annotations

import json
from dataclasses import replace

import pytest

from frugalseg.errors import RunError
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import CasesRecord, EvaluationState, SummaryRecord
from tests.records.test_store import FIXTURES, TIMES


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(("kind", "name"), [(SummaryRecord, "summary"), (CasesRecord, "cases")])
def test_older_files_are_written_again_unchanged(tmp_path, time, kind, name):
    path = FIXTURES / time / f"{name}.json"
    kind.read(path).write(tmp_path / "again.json")
    again, before = json.loads((tmp_path / "again.json").read_text()), json.loads(path.read_text())
    assert again == {"format": 1, **before}


def test_a_summary_is_typed():
    record = SummaryRecord.read(FIXTURES / "before_records" / "summary.json")
    assert record.headline == "all"
    dice = record.groups["all"].organs["liver"].metrics["dice"]
    assert (dice.n, dice.mean, dice.ci95, dice.ci95_kind) == (
        *(4, 1.0, None),
        "no interval: 4 scans, all with the same score",
    )
    assert record.targets == {"liver": (6,)}


def test_a_study_reads_only_the_keys_it_needs(tmp_path):
    path = tmp_path / "summary.json"
    record = SummaryRecord.read(FIXTURES / "before_records" / "summary.json")
    replace(record, complete=False, annotated_slices_left_out={"a": (2, 5)}).write(path)
    assert EvaluationState.read(path) == EvaluationState(complete=False, annotated_slices_left_out={"a": (2, 5)})
    path.write_text('{"format": 1}')
    with pytest.raises(RunError, match="it has no 'complete'"):
        EvaluationState.read(path)


def test_nan_and_infinity_become_none():
    assert [finite_or_none(value) for value in (0.5, float("nan"), float("inf"))] == [0.5, None, None]
