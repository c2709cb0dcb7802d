from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest
import yaml

from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.runs import find_intensity_scale, read_runs
from frugalseg.options import EvaluateOptions
from tests.evaluation.blobs import labels, write_masks
from tests.records.files import old_file


def write_run(folder, config, records=(), model=None):
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(
        json.dumps({"command_line": ["/opt/bin/frugalseg", "finetune", "3 scans"]})
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if model is not None:
        (folder / "model.json").write_text(json.dumps(model))


def test_the_pretraining_run_is_found_through_the_config(tmp_path):
    scale = {"kind": "ct", "low": -100.0, "high": 200.0}
    write_run(tmp_path / "pre", {"tau": 0.05}, [{"step": 5, "loss": 0.7}], old_file("encoder.model"))
    write_run(
        tmp_path / "fit",
        {"encoder": str(tmp_path / "pre")},
        [{"step": 1, "loss": 0.9}, {"step": 2, "loss": 0.5, "dice": 0.8}],
        old_file("segmenter.model", preprocessing={"size": 32, "intensity": scale}),
    )
    pre, fit = read_runs(tmp_path / "fit")
    assert (pre.title, pre.options) == ("Pre-training", {"tau": 0.05})
    assert fit.command_line == "frugalseg finetune '3 scans'"
    assert fit.curve("loss") == ([1.0, 2.0], [0.9, 0.5])
    assert fit.curve("dice") == ([2.0], [0.8])
    assert not fit.problems
    assert asdict(find_intensity_scale([pre, fit])) == scale


def test_missing_and_damaged_files_are_told_and_are_no_error(tmp_path):
    assert read_runs(None) == []
    assert find_intensity_scale([]) is None
    gone = read_runs(tmp_path / "gone")[0]
    assert gone.problems == ["The run folder does not exist."]
    write_run(tmp_path / "fit", ["no mapping"], [{"step": 1, "loss": 1.0}])
    with (tmp_path / "fit" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    (tmp_path / "fit" / "environment.json").write_text("{")
    run = read_runs(tmp_path / "fit")[0]
    assert run.curve("loss") == ([1.0], [1.0])
    assert run.command_line is None
    assert any("environment.json" in problem for problem in run.problems)
    assert find_intensity_scale([run]) is None


HEALTHY = [
    {"step": 5, "loss": 0.7, "uniformity": -0.06, "alignment": 0.03, "embedding_rank": 16.0, "probe_auroc": 0.8},
    {"step": 10, "loss": 0.4, "uniformity": -0.2, "alignment": 0.05, "embedding_rank": 12.0, "probe_auroc": 0.9},
]
COLLAPSED = [HEALTHY[0], {"step": 10, "loss": 0.01, "uniformity": -1e-5, "alignment": 1e-6, "embedding_rank": 1.01}]


def report_of(root, records, model=None):
    """The report on a model that was fine-tuned from a pre-training with these records."""
    write_run(root / "pre", {}, records, model)
    write_run(root / "fit", {"encoder": str(root / "pre")}, [{"step": 1, "loss": 0.9}])
    write_masks(root, {"a": labels()}, {"a": "test"}, model=str(root / "fit"))
    options = EvaluateOptions(
        predictions=root / "pred", references=root / "ref", out=root / "out", target=["liver=6"], workers=0
    )
    evaluate(options)
    return (root / "out" / "report.html").read_text()


def test_the_report_shows_what_the_probe_saw(tmp_path):
    probe = {"slices": 180, "labelled_slices": 77, "labelled_scans": 3, "organs": ["liver"]}
    html = report_of(tmp_path, HEALTHY, old_file("encoder.model", probe=probe))
    for chart in ("organ present, AUROC", "alignment and uniformity", "rank of the embedding"):
        assert f"Pre-training: {chart}" in html
    assert "embedding of 180 training slices" in html
    assert "the image-level labels of 77 slices" in html
    assert "its figures influenced neither the training nor any choice" in html
    assert 'class="notice grave"' not in html


def test_a_collapsed_encoder_is_told_in_the_report(tmp_path):
    html = report_of(tmp_path, COLLAPSED)
    assert 'class="notice grave"' in html
    assert "The encoder has collapsed" in html
    assert "embedding of some training slices" in html


def test_a_run_without_a_probe_has_no_word_of_it(tmp_path):
    html = report_of(tmp_path, [{"step": 5, "loss": 0.7}], {"probe": None})
    assert "A probe watched" not in html
    assert "rank of the embedding" not in html


@pytest.mark.parametrize(
    ("records", "told"), [(HEALTHY, False), (COLLAPSED, True), (COLLAPSED[::-1], False), ([{"step": 1}], False)]
)
def test_the_last_look_decides_whether_an_encoder_has_collapsed(tmp_path, records, told):
    write_run(tmp_path / "pre", {}, records)
    assert read_runs(tmp_path / "pre")[0].collapsed is told


@pytest.mark.parametrize(
    ("dice", "unlearned"),
    [({"liver": 0.91, "spleen": 0.0}, ["spleen"]), ({"liver": 0.91, "spleen": 0.4}, []), ({}, []), (None, [])],
)
def test_the_report_names_organs_that_the_model_has_not_learned(tmp_path, dice, unlearned):
    """Beside the organ and at the top; without validation, and for older models, there is no claim."""
    change = {} if dice is None else {"validation_dice_of_organs": dice}
    targets = {"liver": [6], "spleen": [1]}
    keep = dict.fromkeys(targets, "all")
    write_run(
        tmp_path / "fit",
        {},
        [{"step": 1, "loss": 0.9}],
        old_file("segmenter.model", targets=targets, keep=keep, **change),
    )
    write_masks(tmp_path, {"a": labels()}, {"a": "test"}, model=str(tmp_path / "fit"))
    evaluate(
        EvaluateOptions(
            predictions=tmp_path / "pred",
            references=tmp_path / "ref",
            out=tmp_path / "out",
            target=["liver=6", "spleen=1"],
            workers=0,
        )
    )
    html = (tmp_path / "out" / "report.html").read_text()
    flag = '<span class="flag">not learned: validation Dice 0</span>'
    assert re.findall(rf"(\w+) {flag}</div>", html) == unlearned
    assert re.findall(rf"<td>(\w+) {flag}</td>", html) == unlearned
    assert ("The model has not learned spleen." in html) == bool(unlearned)
    assert ("Dice on the validation patients at step" in html) == bool(dice)
    if dice:
        assert f"liver 0.910, spleen {dice['spleen']:.3f}." in html
