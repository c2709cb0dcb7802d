"""A metric is one entry of the table: added there and nowhere else, it is in every file of evaluations and studies."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from frugalseg.errors import RunError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.metric_table import METRICS, Better, Metric, Place
from frugalseg.evaluation.policy import OVERLAP
from frugalseg.options import EvaluateOptions
from frugalseg.studies.report.report import write_report
from frugalseg.studies.report.results import collect_results, write_tables
from frugalseg.studies.run import study
from tests.evaluation.blobs import labels, write_masks
from tests.studies.plans import changed, options, write_plan

METHODS = """\
  polycl: {pretrain: {method: polycl-s}}
  polycl again:
    pretrain: {method: polycl-s}
    finetune: {lr: 0.001}
"""
"""Of the tiny plan; pre-training has nothing to do with metrics."""


def union_share(pair):
    return pair.in_both / (pair.in_reference + pair.in_prediction - pair.in_both)


def add(monkeypatch, **more):
    """A throw-away metric in the table."""
    metric = Metric("throw_away", "Throw-away", union_share, OVERLAP, "Throw-away: TP / (TP + FP + FN)", **more)
    monkeypatch.setitem(METRICS, metric.key, metric)


def of_dice(dice):
    return dice / (2 - dice)


def evaluated(root, **more):
    """One scan predicted too small and one without the spleen."""
    small = labels()
    small[:6] = 0
    write_masks(root, {"a": small, "b": labels(spleen=labels() == 99)})
    where = {"predictions": root / "pred", "references": root / "ref", "out": root / "out"}
    return evaluate(EvaluateOptions(**where, target=["liver=6", "spleen=1"], bootstrap=100, workers=0, **more))


def test_evaluations_and_their_report(tmp_path, monkeypatch):
    add(monkeypatch)
    summary = evaluated(tmp_path)
    liver = summary.groups["all"].organs["liver"].metrics
    assert 0 < liver["throw_away"].mean < liver["dice"].mean
    assert liver["throw_away"].ci95[1] == 1.0  # inside its range
    assert summary.metrics["throw_away"] == "Throw-away: TP / (TP + FP + FN)"
    assert summary.empty_mask_policy["missed"]["throw_away"] == "0"
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").open(newline="")))
    assert [float(row["throw_away"]) for row in rows] == pytest.approx([of_dice(float(row["dice"])) for row in rows])
    of_json = json.loads((tmp_path / "out" / "cases.json").read_text())["cases"]
    assert [float(row["throw_away"]) for row in rows] == [record["throw_away"] for record in of_json]
    html = (tmp_path / "out" / "report.html").read_text()
    for part in (">Throw-away</th>", "<td>throw_away</td>", "Throw-away: TP"):
        assert part in html
    assert re.search(">Dice, NSD, [^<]*Throw-away</th>", html)  # the rule for empty masks


def test_a_headline_is_printed_and_in_the_list_of_cases(tmp_path, monkeypatch, capsys):
    add(monkeypatch, place=Place.HEADLINE)
    evaluated(tmp_path)
    head, liver, *_ = capsys.readouterr().out.splitlines()[1:]
    assert re.split(r"\s{2,}", head)[-2] == "Throw-away"
    assert len(re.split(r"\s{2,}", liver)) == len(re.split(r"\s{2,}", head))
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count(">Throw-away</th>") == 2 + 2  # of means and of cases, and of each patient
    assert html.count("Throw-away 0.") >= 2 + 2  # a card an organ, and the pictures


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two trainings, evaluated before the metric was there."""
    root = tmp_path_factory.mktemp("study")
    text = changed((METHODS, "  again: {finetune: {lr: 0.001}}\n"), ("seeds: [0, 1]", "seeds: [0]"))
    study(options(write_plan(root, text), root / "out", jobs=2))
    return root / "out"


def evaluate_again(folder: Path) -> None:
    """Every evaluation of a study, with the options that it was made with."""
    for path in folder.rglob("summary.json"):
        told = json.loads(path.read_text())["options"]
        places = {name: Path(told[name]) for name in ("predictions", "references", "out")}
        evaluate(EvaluateOptions(**{**told, **places, "overwrite": True, "workers": 0}))


def reported(folder: Path) -> str:
    results = collect_results(folder)
    write_tables(results, folder)
    return write_report(results, folder, resamples=100).read_text()


def test_studies_their_tables_and_comparisons(finished, monkeypatch):
    add(monkeypatch, place=Place.HEADLINE, better=Better.NEITHER)
    assert pd.read_csv(finished / "cases.csv").get("throw_away") is None
    assert ">Throw-away</th>" in reported(finished)  # though no evaluation has it yet
    assert pd.read_csv(finished / "cases.csv")["throw_away"].isna().all()

    evaluate_again(finished)
    assert ">Throw-away</th>" in reported(finished)
    cases = pd.read_csv(finished / "cases.csv")
    assert cases["throw_away"].to_numpy() == pytest.approx(of_dice(cases["dice"]).to_numpy())
    for name in ("in-domain-held-out-liver", "cross-domain-liver-1-scan", "other-metrics-away-liver"):
        figures = pd.read_csv(finished / "tables" / f"{name}.csv").set_index("metric")
        assert figures.loc["throw_away", "mean"].notna().all()
    compared = pd.read_csv(finished / "tables" / "comparison-held-out-liver-throw_away.csv")
    assert compared["method"].tolist() == ["again"]


def test_one_that_is_no_headline_is_among_a_study_s_other_metrics(finished, monkeypatch):
    add(monkeypatch, physical=True)
    evaluate_again(finished)
    assert ">Throw-away</th>" in reported(finished)
    tables = finished / "tables"
    assert "Throw-away" in (tables / "other-metrics-held-out-liver.tex").read_text()
    assert "Throw-away" not in (tables / "other-metrics-away-liver.tex").read_text()  # its spacing is a placeholder
    assert not (tables / "comparison-held-out-liver-throw_away.csv").exists()


def test_an_evaluation_without_dice_is_damaged(finished):
    path = next(finished.rglob("summary.json")).with_name("cases.csv")
    whole = path.read_text()
    path.write_text(whole.replace(",dice,", ",dace,", 1))
    with pytest.raises(RunError, match="no column dice"):
        collect_results(finished)
    path.write_text(whole)
