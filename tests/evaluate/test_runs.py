from __future__ import annotations

import json

import yaml

from frugalseg.evaluate.runs import intensity_of, read_runs


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
    write_run(tmp_path / "pre", {"tau": 0.05}, [{"step": 5, "loss": 0.7}], {"preprocessing": {}})
    write_run(
        tmp_path / "fit",
        {"encoder": str(tmp_path / "pre")},
        [{"step": 1, "loss": 0.9}, {"step": 2, "loss": 0.5, "dice": 0.8}],
        {"preprocessing": {"intensity": scale}},
    )
    pre, fit = read_runs(tmp_path / "fit")
    assert (pre.title, pre.options) == ("Pre-training", {"tau": 0.05})
    assert fit.command_line == "frugalseg finetune '3 scans'"
    assert fit.curve("loss") == ([1.0, 2.0], [0.9, 0.5])
    assert fit.curve("dice") == ([2.0], [0.8])
    assert not fit.problems
    assert intensity_of([pre, fit]).to_dict() == scale


def test_missing_and_damaged_files_are_told_and_are_no_error(tmp_path):
    assert read_runs(None) == []
    assert intensity_of([]) is None
    gone = read_runs(tmp_path / "gone")[0]
    assert gone.problems == ["The run folder is not there."]
    write_run(tmp_path / "fit", ["no mapping"], [{"step": 1, "loss": 1.0}])
    with (tmp_path / "fit" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    (tmp_path / "fit" / "environment.json").write_text("{")
    run = read_runs(tmp_path / "fit")[0]
    assert run.curve("loss") == ([1.0], [1.0])
    assert run.command_line is None
    assert any("environment.json" in problem for problem in run.problems)
    assert intensity_of([run]) is None
