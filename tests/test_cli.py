from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import frugalseg
from frugalseg import cli
from frugalseg.commands import COMMANDS, function_of
from frugalseg.engine.run import plain
from frugalseg.errors import OptionError
from frugalseg.options import EvaluateOptions, FinetuneOptions, PrepareOptions


def parse(name, *arguments):
    return cli.parse(name, COMMANDS[name], list(arguments))


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from frugalseg.cli import main; main(['--help']); "
        "heavy = {'torch', 'monai', 'lightning', 'numpy', 'pandas', 'jsonargparse'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_flag_and_a_text(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(name, "--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for field in fields(COMMANDS[name].options):
        assert f"--{field.name.replace('_', '-')}" in text


def test_the_issue_s_own_command_lines():
    prepared = parse("prepare", "--images", "i", "--labels", "l", "--target", "liver=6", "--size", "128", "--out", "o")
    assert prepared == PrepareOptions(images=Path("i"), labels=Path("l"), target=["liver=6"], size=128, out=Path("o"))
    fitted = parse("finetune", "--data", "s", "--encoder", "p", "--budget", "3 scans", "--steps", "500", "--out", "f")
    assert fitted == FinetuneOptions(data=Path("s"), encoder=Path("p"), budget="3 scans", steps=500, out=Path("f"))


@pytest.mark.parametrize("flags", [["--target", "a=1", "b=2"], ["--target", "a=1", "--target", "b=2"]])
def test_several_targets(flags):
    options = parse("evaluate", "--predictions", "p", "--references", "r", "--out", "o", *flags)
    assert options == EvaluateOptions(predictions=Path("p"), references=Path("r"), out=Path("o"), target=["a=1", "b=2"])


def test_negative_numbers_and_pairs():
    options = parse("prepare", "--images", "i", "--out", "o", "--window", "-100", "200.5")
    assert options.window == (-100.0, 200.5)
    assert parse("prepare", "--images", "i", "--out", "o").window is None


def test_a_pair_in_a_config_file_and_one_that_is_not_given(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("images: i\nout: o\nwindow: null\npercentiles: [1, 99]\n")
    options = parse("prepare", "--config", str(config))
    assert (options.window, options.percentiles) == (None, (1.0, 99.0))


@pytest.mark.parametrize(("flags", "meant"), [([], "no"), (["--resume"], "yes"), (["--resume", "auto"], "auto")])
def test_resume_has_three_meanings(flags, meant):
    assert parse("finetune", "--data", "d", "--out", "o", *flags).resume == meant


def test_config_file_and_flags_on_top(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data: d\nout: o\nbudget: 5%\nseed: 3\n")
    options = parse("finetune", "--config", str(config), "--seed", "4")
    assert (options.budget, options.seed) == ("5%", 4)


def test_a_run_s_config_runs_again(tmp_path):
    options = FinetuneOptions(data=Path("d"), out=Path("o"), budget="7 slices", encoder=Path("e"), draw=2)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(plain(options)))
    assert parse("finetune", "--config", str(config)) == options


@pytest.mark.parametrize(
    "flags",
    [["--budgett", "3 scans"], ["--steps", "many"], ["--preset", "magic"], ["--resume", "maybe"]],
)
def test_unknown_flags_and_wrong_types_name_the_option(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("finetune", "--data", "d", "--out", "o", *flags)
    assert stopped.value.code == 2
    assert flags[0].lstrip("-") in capsys.readouterr().err


def test_unknown_key_in_a_config_is_named(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("data: d\nout: o\nbugdet: 5%\n")
    with pytest.raises(SystemExit):
        parse("finetune", "--config", str(config))
    assert "bugdet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("finetune", ["--data", "d", "--out", "o", "--steps", "5", "--epochs", "5"], "--epochs 5 and --steps 5"),
        ("finetune", ["--data", "d", "--out", "o", "--steps", "0"], "--steps 0"),
        ("prepare", ["--images", "i", "--out", "o", "--labels", "l"], "without --target"),
        ("prepare", ["--images", "i", "--out", "o", "--window", "5", "1"], "--window 5 1"),
        ("prepare", ["--images", "i", "--out", "o", "--fractions", "0.5", "0.5"], "no patient for training"),
        ("demo", ["--images", "i"], "together"),
    ],
)
def test_values_that_make_no_sense_together(name, flags, said):
    with pytest.raises(OptionError, match=said):
        parse(name, *flags)


def test_exit_codes(tmp_path, capsys):
    assert cli.main([]) == 0
    assert cli.main(["fly"]) == 2
    assert "choose one of" in capsys.readouterr().err
    assert cli.main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--steps", "0"]) == 2
    assert cli.main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    message = capsys.readouterr().err
    assert "is no slice store" in message
    assert "→" in message
    assert not (tmp_path / "o").exists()


def test_every_command_is_a_function_of_the_package():
    """Also those of two words."""
    functions = {function_of(name) for name in COMMANDS}
    assert functions == set(frugalseg.__all__) - {"__version__"}
    assert all(callable(getattr(frugalseg, name)) for name in functions)
