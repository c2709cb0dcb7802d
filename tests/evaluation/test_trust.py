"""What was promised beside what was measured: order, broken promises, scans without a reference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frugalseg.confidence.table import describe_least_certain
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.trust import describe_kept, list_trust
from frugalseg.options import EvaluateOptions
from frugalseg.records.confidence import OrganConfidence, SliceConfidence
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from tests.accessible import assert_accessible
from tests.evaluation.blobs import labels, write_masks


def own(confidence, expected=None, lowest=None, slices=(0.9, 0.4, 0.7, 0.5)):
    numbers = tuple(range(10, 10 + len(slices)))
    return OrganConfidence("probabilities", confidence, expected, lowest, SliceConfidence(numbers, slices))


CONFIDENCES = {
    "a": {"liver": own(0.9, 0.85, 0.7), "spleen": own(0.95, 0.5, 0.2)},
    "b": {"liver": own(0.8, 0.75, 0.6), "spleen": own(0.1)},
    "c": {"liver": own(0.99, 0.0, 0.0)},
}


def row(case, organ, dice):
    return CaseRow(case, "test", organ, Outcome.BOTH, {"dice": dice})


def test_masks_are_sorted_by_expected_dice_and_a_broken_promise_is_found():
    rows = [row("a", "liver", 0.69), row("b", "liver", 0.6), row("a", "spleen", 0.1), row("b", "spleen", 0.9)]
    trust = list_trust(CONFIDENCES, rows, {"liver": (6,), "spleen": (1,)})
    assert [(one.case, one.organ) for one in trust] == [
        *[("c", "liver"), ("b", "spleen"), ("a", "spleen"), ("b", "liver"), ("a", "liver")]
    ]
    assert [one.broken for one in trust] == [False, False, True, False, True]
    assert trust[0].dice is None
    assert trust[0].weakest == [11, 13, 12]
    assert describe_kept(trust) == "The lower bound held for 1 of 3 masks with a reference."
    assert describe_kept(trust[:2]) == ""
    assert [one.organ for one in list_trust(CONFIDENCES, rows, {"spleen": (1,)})] == ["spleen", "spleen"]


def test_the_command_prints_the_least_certain_masks():
    lines = describe_least_certain(CONFIDENCES, most=2).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["c", "liver", "0.990", "0.000", "0.000", "11,", "13,", "12"],
        ["b", "spleen", "0.100", "–", "–", "11,", "13,", "12"],
    ]
    assert lines[3] == "3 more in confidence.csv"
    assert describe_least_certain({}) == ""
    assert "more" not in describe_least_certain(CONFIDENCES, most=5)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.9, None, None), "no Dice is promised"),
        ((0.9, 0.8, None), "a lower bound would need nine of them"),
        ((0.9, 0.8, 0.6), "nine of ten new scans like theirs have a Dice above it"),
    ],
)
def test_the_report_says_what_is_promised(tmp_path, figures, said):
    write_masks(tmp_path, {"a": labels()}, {"a": "test"})
    path = tmp_path / "pred" / PREDICTIONS_FILE
    replace(PredictionRecord.read(path), confidence={"a": {"liver": own(*figures)}}).write(path)
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    evaluate(EvaluateOptions(**folders, target=["liver=6"], workers=0))
    page = (tmp_path / "out" / "report.html").read_text()
    promises = ("no Dice is promised", "would need nine of them", "nine of ten new scans")
    assert said in page
    assert sum(promise in page for promise in promises) == 1


@pytest.mark.parametrize("known", [True, False])
def test_the_report_has_the_table_only_where_there_is_confidence(tmp_path, known):
    write_masks(tmp_path, {"a": labels(), "b": labels()}, {"a": "test", "b": "test"})
    path = tmp_path / "pred" / PREDICTIONS_FILE
    record = PredictionRecord.read(path)
    if known:
        broken = {"liver": own(0.9, 1.0, 1.1)}  # above every possible Dice
        replace(record, confidence={"a": broken, "b": {"spleen": own(0.7)}}).write(path)
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    evaluate(EvaluateOptions(**folders, target=["liver=6", "spleen=1"], workers=0))
    page = (tmp_path / "out" / "report.html").read_text()
    assert_accessible(page)
    assert ('<table id="trust">' in page) is known
    assert ("below the bound</span>" in page) is known
    if known:
        table = page[page.index('<table id="trust">') : page.index("How it was measured</h2>")]
        assert table.index("<td>b</td>") < table.index("<td>a</td>")
        assert 'data-value="nan"' in table
