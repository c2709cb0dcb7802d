"""Metrics for TensorBoard, Weights & Biases and MLflow, without network: both write files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from typing import get_args

import pytest

from frugalseg.engine import metric_loggers
from frugalseg.engine.metric_loggers import EXTRAS, LOGGERS, MetricLoggers
from frugalseg.engine.run import RunFolder
from frugalseg.errors import OptionError
from frugalseg.options.common import Logger
from tests.engine.toy import Killed, ToyTask, run_toy

ROOT = Path(__file__).resolve().parents[2]
SECRET = "secret-host-of-a-person"


class Recorder:
    """A logger that keeps what it is given."""

    def __init__(self, folder, config):
        self.folder, self.config, self.lines, self.ended = folder, config, [], None
        Recorder.last = self

    def log(self, step, figures):
        self.lines.append((step, dict(figures)))

    def close(self, failed):
        self.ended = failed


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(metric_loggers, "find_spec", lambda name: None if name == "tensorboard" else object())
    monkeypatch.setitem(LOGGERS, "wandb", Recorder)


def test_it_gets_what_metrics_jsonl_has_and_no_path(recorder, tmp_path):
    run = run_toy(tmp_path / "run", ToyTask(), log_to=["wandb"])
    assert Recorder.last.lines == [
        (record["step"], {name: value for name, value in record.items() if name != "step"})
        for record in run.read_records()
    ]
    assert [step for step, _ in Recorder.last.lines] == [10, 20, 30, 40]
    assert Recorder.last.config == {"resume": "no", "lr": 0.05, "log_to": ["wandb"]}
    assert Recorder.last.ended is False


def test_a_stopped_training_is_closed_as_failed(recorder, tmp_path):
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=15), log_to=["wandb"])
    assert Recorder.last.ended is True


def test_nothing_is_started_unless_asked(recorder, tmp_path, monkeypatch):
    for name in LOGGERS:
        monkeypatch.setitem(LOGGERS, name, lambda *_: pytest.fail("nobody asked for it"))
    run_toy(tmp_path / "run", ToyTask())


def test_one_that_fails_later_is_left_out_with_a_warning(recorder, tmp_path, monkeypatch):
    def refuse(self, step, figures):
        self.lines.append(step)
        raise ConnectionError("the server is away\nand more")

    monkeypatch.setattr(Recorder, "log", refuse)
    with pytest.warns(UserWarning, match=r"wandb gets no more metrics \(the server is away\)"):
        run = run_toy(tmp_path / "run", ToyTask(), log_to=["wandb"])
    assert run.finished is False
    assert [record["step"] for record in run.read_records()] == [10, 20, 30, 40]
    assert Recorder.last.lines == [10]


def test_one_that_cannot_start_leaves_the_folder_free(recorder, tmp_path, monkeypatch):
    def refuse(folder, config):
        (folder / "wandb").mkdir()
        raise RuntimeError("no API key")

    monkeypatch.setitem(LOGGERS, "wandb", refuse)
    with pytest.raises(OptionError, match=r"--log-to wandb: it cannot start \(no API key\)"):
        run_toy(tmp_path / "run", ToyTask(), log_to=["wandb"])
    run_toy(tmp_path / "run", ToyTask())


def test_one_that_is_not_installed_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(metric_loggers, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="mlflow is not installed") as caught:
        run_toy(tmp_path / "run", ToyTask(), log_to=["mlflow"])
    assert caught.value.cure == "run pip install 'frugalseg[mlflow]'"
    assert not (tmp_path / "run").exists()


def test_the_option_lists_the_table():
    assert set(get_args(Logger)) == LOGGERS.keys() == EXTRAS.keys()


def test_tensorboard_drops_the_steps_that_are_repeated(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((10, 20, 30), (20, 40)):  # resumed from step 10
        loggers = MetricLoggers([], tmp_path, make_dataclass("Options", [])())
        for step in steps:
            loggers.log(step, {"loss": float(step)})
        loggers.close(failed=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 10), (20, 20), (40, 40)]


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    """MLflow with a store of files."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    from mlflow import MlflowClient

    return MlflowClient()


def test_mlflow_has_every_figure_once_and_the_options(mlflow_store, tmp_path):
    run = run_toy(tmp_path / "run", ToyTask(), log_to=["mlflow"])
    name = (run.path / "mlflow.id").read_text()
    history = mlflow_store.get_metric_history(name, "loss")
    assert [(one.step, one.value) for one in history] == [(line["step"], line["loss"]) for line in run.read_records()]
    found = mlflow_store.get_run(name)
    assert found.data.params == {"resume": "no", "lr": "0.05", "log_to": "['mlflow']"}
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.tags["mlflow.user"] == ""


def test_mlflow_continues_the_run_that_is_resumed(mlflow_store, tmp_path):
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=25), log_to=["mlflow"])
    name = (tmp_path / "run" / "mlflow.id").read_text()
    assert mlflow_store.get_run(name).info.status == "FAILED"
    run_toy(tmp_path / "run", ToyTask(), resume="yes", log_to=["mlflow"])
    assert (tmp_path / "run" / "mlflow.id").read_text() == name
    assert mlflow_store.get_run(name).info.status == "FINISHED"
    assert {one.step for one in mlflow_store.get_metric_history(name, "loss")} == {10, 20, 30, 40}


def test_mlflow_without_a_store_is_an_error_before_the_training(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")
    with pytest.raises(OptionError, match="--log-to mlflow: it cannot start"):
        run_toy(tmp_path / "run", ToyTask(), log_to=["mlflow"])
    run_toy(tmp_path / "run", ToyTask())


def test_wandb_writes_every_figure_and_nothing_about_the_machine(tmp_path):
    """In a process of its own: wandb writes the last bytes when the process ends."""
    pytest.importorskip("wandb")
    code = (
        f"import socket, pathlib; socket.gethostname = lambda: {SECRET!r}\n"
        "from tests.engine.toy import ToyTask, run_toy\n"
        f"run_toy(pathlib.Path({str(tmp_path / 'run')!r}), ToyTask(), log_to=['wandb'])"
    )
    environment = {**os.environ, "WANDB_MODE": "offline"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert (tmp_path / "run" / "wandb.id").read_bytes() in content
    records = RunFolder(tmp_path / "run").read_records()
    assert len(records) == 4
    for record in records:
        assert json.dumps(record["loss"]).encode() in content
    for private in (SECRET, str(tmp_path), str(ROOT)):
        assert private.encode() not in content
