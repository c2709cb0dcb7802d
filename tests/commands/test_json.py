"""`--json`: standard output is one JSON object of the documented shape, for every command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from frugalseg.cli import main
from frugalseg.commands.results import RESULTS, to_json_value
from frugalseg.commands.switches import Switches, split_switches
from frugalseg.commands.table import COMMANDS
from frugalseg.engine.progress import set_verbosity
from frugalseg.errors import OptionError
from tests.scans import write_cohort

EXACT = "--device cpu --precision 32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scans, and what the commands make of them."""
    root = tmp_path_factory.mktemp("json")
    write_cohort(root, 5, shape=(32, 32, 4), labelled=4)
    return root


@pytest.fixture(autouse=True)
def normal():
    yield
    set_verbosity("normal")


COMMANDS_IN_ORDER = (
    "prepare --images images --labels labels --target liver=6 --size 32 --out store",
    "prepare superpixels store",
    f"pretrain --data store --method simclr --steps 1 --batch-size 4 --out encoder {EXACT}",
    f"finetune --data store --steps 2 --out model {EXACT}",
    f"finetune --data store --steps 1 --folds 2 --out folds {EXACT}",
    "calibrate --model model --data store --device cpu --precision 32",
    f"predict --model model --images images --out masks {EXACT}",
    "suggest --data store --budget 2 --out suggestions",
    "evaluate --predictions masks --references labels --out scores --report=false",
    "push hub/model --model model",
    "pull hub/model --out pulled",
    "weights list",
    "weights verify",
)


@pytest.mark.parametrize("line", COMMANDS_IN_ORDER)
def test_standard_output_is_the_result_of_the_command(folder, monkeypatch, capsys, line):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FRUGALSEG_HOME", str(folder / "home"))
    (folder / "hub").mkdir(exist_ok=True)
    words = shlex.split(line.replace("hub/model", "./hub/model"))
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"command", "version", "seconds", "result"}
    assert printed["command"] == name
    result = msgspec.convert(printed["result"], RESULTS[name].kind, strict=True, dec_hook=lambda kind, text: kind(text))
    assert to_json_value(result) == printed["result"]
    for path in (value for value in vars(result).values() if isinstance(value, Path)):
        assert path.exists() or name == "weights list"


def test_figures_of_a_training_are_those_of_its_record(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    line = f"finetune --data store --steps 3 --validate-every 1 --label-draw 1 --out again {EXACT} --json"
    assert main(shlex.split(line)) == 0
    (model,) = json.loads(capsys.readouterr().out)["result"]["models"]
    record = json.loads((folder / "again" / "model.json").read_text())
    assert model["validation_dice"] == record["validation_dice"]
    assert (model["step"], model["masks"]) == (record["step"], record["annotation"]["masks"])


def test_every_command_has_a_result():
    own = {name for name, command in COMMANDS.items() if "json" in get_type_hints(command.options)}
    assert own == {"doctor"}
    assert RESULTS.keys() == COMMANDS.keys() - own


def test_an_error_leaves_standard_output_empty(tmp_path, capsys):
    assert main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--json"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "is not a slice store" in told.err


def switches(*words, name="finetune"):
    return split_switches(words, COMMANDS[name])


def test_switches_stand_anywhere_among_the_options():
    found, others = switches("--data", "d", "--json", "-q", "--out", "o", "--plugin", "a.b", "--plugin=c")
    assert found == Switches(json=True, quiet=True, plugin=("a.b", "c"))
    assert others == ["--data", "d", "--out", "o"]
    assert switches("-v", "--json=false")[0] == Switches(verbose=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-q", "--verbose"], "--quiet and --verbose were both given"),
        (["--plugin"], "without a module"),
        (["--plugin", "--json"], "without a module"),
        (["--json=yes"], "--json yes: expected true or false"),
    ],
)
def test_switches_that_make_no_sense(words, said, capsys):
    with pytest.raises(OptionError, match=said):
        switches(*words)
    assert main(["finetune", *words]) == 2
    assert said in capsys.readouterr().err


def test_quiet_prints_warnings_and_nothing_else(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    line = f"finetune --data store --steps 1 --label-draw 2 --out quiet {EXACT} -q"
    assert main(shlex.split(line)) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert all(line.startswith("warning: ") for line in told.err.splitlines())


def test_verbose_prints_what_is_needed_to_repeat_a_command(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(shlex.split(f"finetune --data store --steps 1 --label-draw 3 --out long {EXACT} -v")) == 0
    told = capsys.readouterr().err
    assert f"command: frugalseg finetune --data store --out long --steps 1 {EXACT} --label-draw 3" in told
    assert "preset=robust" in told
    assert "peak memory" in told
    assert main(["finetune", "--data", "gone", "--out", "o", "--verbose"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "error: gone is not a slice store" in told
