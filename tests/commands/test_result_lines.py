"""The last lines of commands name the result, and the next command, which can be run unchanged."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from frugalseg import cli
from frugalseg.cli import main
from frugalseg.commands import result_lines
from frugalseg.commands.table import COMMANDS, format_command
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.run import to_plain_options
from frugalseg.options import EvaluateOptions, FinetuneOptions, PrepareOptions, PretrainOptions
from tests.engine.test_progress import run_on_terminal
from tests.scans import write_cohort


@pytest.mark.parametrize(
    "given",
    [
        PrepareOptions(images=Path("-i"), out=Path("it's $HOME"), window=(-100.0, 200.5), target=["a=1", "b=2"]),
        PretrainOptions(data=Path("s"), out=Path("o"), method="simclr", resume="auto", seed=3),
        FinetuneOptions(data=Path("s"), out=Path("o"), budget="3 scans", lr=1e-4, transductive=True),
        EvaluateOptions(predictions=Path("p"), references=Path("r"), out=Path("o"), report=False, overwrite=True),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_formatted_command_parses_to_the_same_options(given):
    name = next(name for name, command in COMMANDS.items() if command.options is type(given))
    program, *words = shlex.split(format_command(name, given))
    assert program == "frugalseg"
    assert cli.parse(name, COMMANDS[name], words[len(name.split()) :]) == given


def test_defaults_are_left_out():
    given = FinetuneOptions(data=Path("s"), out=Path("o"))
    assert format_command("finetune", given) == "frugalseg finetune --data s --out o"
    needed = [f.name for f in fields(given) if f.default is MISSING and f.default_factory is MISSING]
    assert set(to_plain_options(given)) - set(needed)


def last_lines(capsys, *words):
    """Run a command; its result line and the command that it proposes."""
    assert main([str(word) for word in words]) == 0
    lines = capsys.readouterr().err.splitlines()
    proposed = [line for line in lines if line.startswith("next: ")]
    at = lines.index(proposed[0]) if proposed else len(lines)
    return lines[at - 1], shlex.split(proposed[0].removeprefix("next: "))[1:] if proposed else []


def test_every_command_names_its_result_and_the_next_one_runs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "Bob's scans"
    images, labels = write_cohort(folder, 5)
    monkeypatch.chdir(folder)
    told, following = last_lines(
        capsys, "prepare", "--images", images, "--labels", labels, "--target", "liver=6", "--size", 32, "--out", "store"
    )
    assert told == "slice store: store"
    assert following == ["finetune", "--data", "store", "--out", "store-model"]

    told, following = last_lines(capsys, "pretrain", "--data", "store", "--steps", 2, "--out", "pre", "--device", "cpu")
    assert told == "encoder: pre (polycl-m)"
    assert following[:5] == ["finetune", "--data", "store", "--out", "pre-model"]
    assert following[-2:] == ["--encoder", "pre"]

    told, following = last_lines(capsys, *following, "--steps", 2)
    dice = json.loads((folder / "pre-model" / "model.json").read_text())["validation_dice"]
    assert told.startswith(f"model: pre-model (validation Dice {dice:.3f}, of step ")

    told, following = last_lines(capsys, *following)
    assert told == "5 masks: pre-model-predictions"
    assert following[following.index("--references") + 1] == "labels"

    told, following = last_lines(capsys, *following)
    assert told == "report: pre-model-predictions-evaluation/report.html"
    assert (folder / "pre-model-predictions-evaluation" / "report.html").is_file()
    assert not following


def test_a_training_on_a_terminal_shows_dice_and_best_and_ends_with_its_path(tmp_path):
    images, labels = write_cohort(tmp_path, 4)
    store, out = tmp_path / "store", tmp_path / "a model"
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=store))
    words = ["finetune", "--data", str(store), "--steps", "150", "--out", str(out), "--device", "cpu", "--threads", "1"]
    shown = run_on_terminal(f"import sys; from frugalseg.cli import main; sys.exit(main({words}))", columns=200)
    assert re.search(r"training +━.*\d+/150", shown)
    assert re.search(r"loss \d\.\d+ · validation Dice \d\.\d+ · best \d\.\d+ at step \d+ · \d+ samples/s", shown)
    best = json.loads((out / "model.json").read_text())
    told = f"model: {out} (validation Dice {best['validation_dice']:.3f}, of step {best['step']})"
    *_, line, proposed = [text for text in re.split(r"[\r\n]+", shown) if text.strip()]
    assert line == told
    assert proposed.startswith(f"next: frugalseg predict --model '{out}'")


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    assert result_lines._find_free_name(tmp_path / "run", "model") == tmp_path / "run-model"
    (tmp_path / "run-model").mkdir()
    (tmp_path / "run-model-2").mkdir()
    assert result_lines._find_free_name(tmp_path / "run", "model") == tmp_path / "run-model-3"


def test_a_free_name_beside_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert result_lines._find_free_name(Path(), "model") == tmp_path.with_name(f"{tmp_path.name}-model")


@pytest.mark.parametrize("note", [{}, {"model": "gone"}, {"model": "."}])
def test_placeholders_are_explained(tmp_path, monkeypatch, note):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("- no run\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text(json.dumps({"roles": None, **note}))
    options = result_lines.PropagateOptions(images=Path("i"), annotations=Path("a"), out=Path("out"))
    told, following = result_lines.RESULT_LINES["propagate"](options, {"a": Path("out/a.nii.gz")})
    assert told == "1 mask: out"
    assert "--references MASKS" in following
    assert "MASKS means a folder of reference masks" in following
    assert "ORGAN=VALUE means an organ" in following


def test_after_a_store_without_masks_a_method_without_labels_is_proposed(tmp_path, monkeypatch, capsys):
    images, _ = write_cohort(tmp_path, 4)
    monkeypatch.chdir(tmp_path)
    _, following = last_lines(capsys, "prepare", "--images", images, "--size", 32, "--out", "store")
    assert following == ["pretrain", "--data", "store", "--out", "store-encoder", "--method", "simclr"]
    assert main([*following, "--steps", "2", "--device", "cpu"]) == 0
    assert "next: prepare scans with masks" in capsys.readouterr().err


def test_other_processes_of_several_read_and_print_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(result_lines.console, "quiet", True)
    result_lines.say_result("pretrain", PretrainOptions(data=tmp_path, out=tmp_path), None)


def test_a_training_of_several_organs_ends_with_a_table_of_their_dice(tmp_path, monkeypatch, capsys):
    images, labels = write_cohort(tmp_path, 5)
    monkeypatch.chdir(tmp_path)
    targets = ["--target", "liver=6", "--target", "spleen=1"]
    last_lines(capsys, "prepare", "--images", images, "--labels", labels, *targets, "--size", 32, "--out", "store")
    assert main(["finetune", "--data", "store", "--steps", "20", "--out", "model", "--device", "cpu"]) == 0
    lines = capsys.readouterr().err.splitlines()
    dice = json.loads(Path("model/model.json").read_text())["validation_dice_of_organs"]
    assert dice.keys() == {"liver", "spleen"}
    at = lines.index("organ   validation Dice")
    assert [line.split() for line in lines[at + 1 : at + 3]] == [[name, f"{dice[name]:.3f}"] for name in dice]
    assert lines[at + 3].startswith("model: model (validation Dice")
