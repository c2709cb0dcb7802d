"""The demo on the user's own scans: errors that it finds before the training, which takes minutes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg.cli import main
from frugalseg.commands import demo as room
from frugalseg.commands.demo import demo
from frugalseg.errors import OptionError, RunError, SplitError
from frugalseg.options import DemoOptions
from tests.scans import write_cohort

TINY = [
    "--size",
    "32",
    "--phantoms",
    "5",
    "--steps",
    "3",
    "--pretrain-epochs",
    "1",
    "--device",
    "cpu",
    "--threads",
    "1",
]


class PreTrainingBegunError(Exception):
    """As far as these tests go."""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Options of a demo on four labelled scans, of which two are left to train on; no training begins."""

    def begin(options):
        raise PreTrainingBegunError

    monkeypatch.setattr(room, "pretrain", begin)
    images, labels = write_cohort(tmp_path / "scans", 4)
    return {"images": images, "labels": labels, "target": ["liver=6"], "size": 32, "device": "cpu"}


def test_a_budget_of_more_scans_than_are_left_ends_before_the_pre_training(given, tmp_path):
    with pytest.raises(SplitError, match="'3 scans': there are only 2 labelled training scans; .* 2 other") as caught:
        demo(DemoOptions(out=tmp_path / "demo", budget="3 scans", **given))
    assert "--overwrite and a smaller --budget" in caught.value.cure
    with pytest.raises(PreTrainingBegunError):
        demo(DemoOptions(out=tmp_path / "demo", budget="2 scans", overwrite=True, **given))


def test_with_few_scans_the_demo_trains_on_all_that_are_left(given, tmp_path, monkeypatch):
    class FineTuningBegunError(Exception):
        """With a budget."""

    def begin(options):
        raise FineTuningBegunError(options.budget)

    monkeypatch.setattr(room, "pretrain", lambda options: None)
    monkeypatch.setattr(room, "finetune", begin)
    with pytest.raises(FineTuningBegunError, match="2 scans"):
        demo(DemoOptions(out=tmp_path / "demo", **given))


def test_the_printed_command_lines_run_in_a_shell(tmp_path, monkeypatch, capsys):
    """In a folder whose name has a blank and a quote, with the scans of the demo only."""
    out = tmp_path / "it's my demo"
    assert main(["demo", *TINY, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert Path(shown.out.splitlines()[-1]) == out / "evaluation" / "report.html"
    lines = [line for line in shown.err.splitlines() if line.startswith("frugalseg ")]
    assert [line.split()[1] for line in lines] == ["prepare", "pretrain", "finetune", "predict", "evaluate"]
    model = (out / "model" / "model.safetensors").read_bytes()
    for name in room.SUBFOLDERS[1:]:
        shutil.rmtree(out / name)
    program = tmp_path / "bin" / "frugalseg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m frugalseg "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    done = subprocess.run(["sh", "-ec", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "evaluation" / "report.html").is_file()
    assert (out / "model" / "model.safetensors").read_bytes() == model


def test_an_interrupted_demo_is_resumed(tmp_path, monkeypatch, capsys):
    def stop(options):
        raise KeyboardInterrupt

    out = ["--out", str(tmp_path / "demo")]
    with monkeypatch.context() as patched:
        patched.setattr(room, "predict", stop)
        assert main(["demo", *TINY, *out]) == 130
    model = (tmp_path / "demo" / "model" / "model.json").stat().st_mtime_ns
    assert main(["demo", *TINY, *out]) == 1
    assert "give --resume or --overwrite" in capsys.readouterr().err
    assert main(["demo", *TINY, *out, "--steps", "4", "--resume"]) == 1
    assert "steps: 3 then, 4 now" in capsys.readouterr().err
    assert main(["demo", *TINY, *out, "--resume"]) == 0
    assert (tmp_path / "demo" / "evaluation" / "report.html").is_file()
    assert main(["demo", *TINY, *out, "--resume"]) == 0  # also one that is through
    assert (tmp_path / "demo" / "model" / "model.json").stat().st_mtime_ns == model


def test_incomplete_phantoms_are_simulated_again(tmp_path, monkeypatch):
    def write_one_and_stop(folder, cases, seed):
        write_cohort(folder, 1)
        raise KeyboardInterrupt

    out = tmp_path / "demo"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(room, "write_cohort", write_one_and_stop)
        demo(DemoOptions(out=out))
    assert not (out / "scans").exists()
    made = []
    monkeypatch.setattr(room, "write_cohort", lambda folder, cases, seed: made.append(folder) or folder.mkdir())
    shutil.rmtree(out / "scans.partial")
    assert room._find_scans(DemoOptions(out=out))[0] == out / "scans" / "images"
    assert made == [out / "scans.partial"]


def test_there_must_be_a_demo_to_resume(tmp_path):
    with pytest.raises(RunError, match="holds no demo to resume"):
        demo(DemoOptions(out=tmp_path / "demo", resume="yes"))
    assert not (tmp_path / "demo").exists()
    with pytest.raises(OptionError, match="--overwrite deletes .* --resume yes continues it"):
        DemoOptions(out=tmp_path, resume="yes", overwrite=True)
