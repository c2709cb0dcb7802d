"""How far a run is, and what is left."""

from __future__ import annotations

import json

import pytest
import yaml

from frugalseg.engine.run import to_plain_options
from frugalseg.errors import RunError
from frugalseg.options import FinetuneOptions, PretrainOptions
from frugalseg.studies.jobs.job_progress import (
    JobProgress,
    ProgressRecord,
    estimate_seconds_left,
    format_duration,
    read_job_progress,
    read_last_record,
    read_training_seconds,
)


def run_folder(path, options, *records, length=None):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(to_plain_options(options)))
    if length is not None:
        (path / "length.json").write_text(json.dumps({"steps": length}))
    if records:
        (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def finetuning(path, *records, length=None, **more):
    return run_folder(path, FinetuneOptions(data=path, out=path, **more), *records, length=length)


def at(step):
    return {"step": step, "epoch": 1.0, "seconds": 2.0 * step}


def test_the_length_is_that_of_the_training_not_of_its_preset(tmp_path):
    pretraining = PretrainOptions(data=tmp_path, out=tmp_path, epochs=4)
    assert read_job_progress(tmp_path / "none") == JobProgress(0.0, "starting")
    assert read_job_progress(finetuning(tmp_path / "a", length=50)) == JobProgress(0.0, "starting")
    organs = finetuning(tmp_path / "b", at(1500), length=3600)  # 13 organs; the preset alone has 1000
    assert read_job_progress(organs) == JobProgress(1500 / 3600, "step 1500 of 3600")
    frozen = finetuning(tmp_path / "c", at(150), length=300, backbone="litemedsam")
    assert read_job_progress(frozen) == JobProgress(0.5, "step 150 of 300")
    epochs = run_folder(tmp_path / "d", pretraining, at(9), length=12)
    assert read_job_progress(epochs) == JobProgress(0.75, "step 9 of 12")


def test_a_run_of_an_older_version_has_no_length(tmp_path):
    assert read_job_progress(finetuning(tmp_path / "run", at(10))) == JobProgress(None, "step 10")


@pytest.mark.parametrize("content", ["", "{", '{"steps": "many"}'])
def test_a_damaged_length_is_named(tmp_path, content):
    run = finetuning(tmp_path / "run", at(10))
    (run / "length.json").write_text(content)
    with pytest.raises(RunError, match="length.json is damaged"):
        read_job_progress(run)


def test_rounds_of_self_training_count_together(tmp_path):
    run = finetuning(tmp_path / "run", steps=10, semi="self-training", rounds=2)
    assert read_job_progress(run) == JobProgress(0.0, "starting")
    finetuning(run / "rounds" / "0", at(5), length=10)
    assert read_job_progress(run).share == pytest.approx(1 / 6)
    (run / "rounds" / "0" / "model.json").write_text("{}")
    finetuning(run / "rounds" / "1", at(10), length=10)
    assert read_job_progress(run) == JobProgress(pytest.approx(2 / 3), "training 2 of 3, step 10 of 10")
    (run / "rounds" / "1" / "model.json").write_text("{}")
    assert read_job_progress(run) == JobProgress(pytest.approx(2 / 3), "training 3 of 3, starting")
    (run / "metrics.jsonl").write_text(json.dumps(at(2)) + "\n")
    assert read_training_seconds(run) == 2.0 * (5 + 10 + 2)
    (run / "model.json").write_text("{}")
    assert read_job_progress(run) == JobProgress(1.0, "testing")


def test_self_training_with_nothing_unlabelled_is_one_training(tmp_path):
    run = finetuning(tmp_path / "run", at(5), length=10, semi="self-training", rounds=2)
    assert read_job_progress(run) == JobProgress(0.5, "step 5 of 10")


def test_the_last_whole_record_counts(tmp_path):
    run = finetuning(tmp_path / "run", *(at(step) for step in range(500)), steps=900)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50')  # a line that a kill cut off
    assert read_last_record(run) == ProgressRecord(step=499, seconds=998.0)
    (run / "metrics.jsonl").write_text('{"step": 1')
    assert read_last_record(run) is None


def test_what_is_left():
    assert estimate_seconds_left({}, ["a"], 1) is None
    assert estimate_seconds_left({"a": [2.0, 4.0]}, ["a", "a"], 1) == 6.0
    assert estimate_seconds_left({"a": [2.0, 4.0]}, ["a", "a"], 2) == 3.0
    assert estimate_seconds_left({"a": [2.0], "b": [6.0]}, ["a", "unknown"], 1) == 6.0
    assert estimate_seconds_left({"a": [2.0]}, [], 1) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "unknown"), (4.4, "4 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_times_in_words(seconds, words):
    assert format_duration(seconds) == words
