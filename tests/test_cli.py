from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

import frugalseg
from frugalseg import cli
from frugalseg.commands.help import OPTION_GROUPS, read_option_texts, remove_none
from frugalseg.commands.table import COMMANDS, function_name, to_flag
from frugalseg.engine.run import to_plain_options
from frugalseg.errors import OptionError
from frugalseg.options import EvaluateOptions, FinetuneOptions, PrepareOptions
from frugalseg.options.common import BackboneName
from frugalseg.options.renamed import RENAMED, RENAMED_VALUES


def parse(name, *arguments):
    return cli.parse(name, COMMANDS[name], list(arguments))


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from frugalseg.cli import main; main(['--help']); "
        "heavy = {'torch', 'monai', 'lightning_fabric', 'numpy', 'pandas', 'jsonargparse'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_its_choices_its_default_and_an_example(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    command = COMMANDS[name]
    for field in fields(command.options):
        assert f"{to_flag(field.name)} " in text, f"{field.name} is not in commands.help.OPTION_GROUPS"
        kind = remove_none(get_type_hints(command.options)[field.name])
        if get_origin(kind) is Literal:
            assert f"{to_flag(field.name)} {{{','.join(get_args(kind))}}}" in text
        if isinstance(field.default, (int, float, str)) and field.default not in (False, ""):
            assert f"(default: {str(field.default).replace('True', 'true')})" in text
    assert f"example: {command.example}" in text
    assert "<class" not in text
    assert "Literal" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_every_help_is_a_command_line_that_parses(name):
    words = shlex.split(COMMANDS[name].example)
    assert words[: 1 + len(name.split())] == ["frugalseg", *name.split()]
    assert isinstance(parse(name, *words[1 + len(name.split()) :]), COMMANDS[name].options)


def test_every_option_is_in_one_group_and_every_group_is_used():
    grouped = [option for members in OPTION_GROUPS.values() for option in members]
    assert len(grouped) == len(set(grouped))
    assert {"config", *(field.name for command in COMMANDS.values() for field in fields(command.options))} >= {*grouped}


def test_backbones_of_the_help_are_those_of_the_registry():
    from frugalseg.models.registry import BACKBONES

    assert list(get_args(BackboneName)) == list(BACKBONES)
    described = read_option_texts(COMMANDS["finetune"])["backbone"]
    assert set(re.findall(r"[\w-]+", described)) >= {*BACKBONES, "litemedsam"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["weights"], "`weights` needs one more word\n  → choose one of: weights list, weights fetch"),
        (["sam-mix"], "choose one of: sam-mix train, sam-mix predict, sam-mix evaluate"),
        (
            ["study"],
            "`study` needs --plan and --out\n  → give --plan and --out, for example: frugalseg study smoke --out",
        ),
        (["weights", "lst"], "did you mean `weights list`?"),
        (["predcit"], "did you mean `predict`?"),
        (["weihgts", "list"], "did you mean `weights list`?"),
        (["finetune", "--bugdet", "5%"], "`finetune` has no option --bugdet\n  → did you mean `--budget`?"),
        (["finetune", "--data", "d", "--out", "o", "--steps", "many"], "--steps many: expected a whole number"),
        (["finetune", "--data", "d", "--out", "o", "--norm", "none"], "expected one of instance, instance_affine"),
        (["prepare", "--images", "i", "--out", "o", "--window", "a", "b"], "expected 2 values, each a number"),
    ],
)
def test_missing_or_mistyped_words_get_suggestions(words, said, capsys):
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_the_first_word_of_several_commands_has_a_help_of_its_own(capsys):
    assert cli.main(["weights", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS if name.startswith("weights "))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("study", "at_once", "jobs"),
        ("predict", "flips", "tta"),
        ("predict", "average_with", "model"),
        ("refine", "smallest", "min_area_mm2"),
        ("refine", "consistent", "smooth_slices"),
        ("finetune", "draw", "label_draw"),
        ("sam-mix train", "rank", "lora_rank"),
        ("pretrain", "tau", "temperature"),
    ],
)
def test_a_former_name_is_refused_naming_the_new_one(name, old, new, tmp_path):
    with pytest.raises(OptionError, match=f"--{old.replace('_', '-')} was renamed\n.*--{new.replace('_', '-')}$"):
        parse(name, f"--{old.replace('_', '-')}", "1")
    config = tmp_path / "config.yaml"
    config.write_text(f"{old}: 1\n")
    with pytest.raises(OptionError, match=f"{old} was renamed\n.*{new}$"):
        parse(name, "--config", str(config))


def test_a_former_value_is_refused_naming_the_new_one():
    with pytest.raises(OptionError, match=r"--boxes body was renamed\n.*--boxes component-3d$"):
        parse("refine", "--boxes", "body")


def test_every_renamed_option_leads_to_an_existing_one():
    options = {field.name: field for command in COMMANDS.values() for field in fields(command.options)}
    assert {*RENAMED.values()} <= {*options}
    assert not {*RENAMED} & {*options}, "a former name must not come back with another meaning"
    hints = {name: kind for command in COMMANDS.values() for name, kind in get_type_hints(command.options).items()}
    assert all(new in get_args(hints[name]) for (name, _), new in RENAMED_VALUES.items())


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
    options = FinetuneOptions(data=Path("d"), out=Path("o"), budget="7 slices", encoder=Path("e"), label_draw=2)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(to_plain_options(options)))
    assert parse("finetune", "--config", str(config)) == options


@pytest.mark.parametrize(
    "flags",
    [["--budgett", "3 scans"], ["--steps", "many"], ["--preset", "magic"], ["--resume", "maybe"]],
)
def test_unknown_flags_and_wrong_types_name_the_option(flags, capsys):
    assert cli.main(["finetune", "--data", "d", "--out", "o", *flags]) == 2
    assert flags[0].lstrip("-") in capsys.readouterr().err


def test_unknown_key_in_a_config_is_named(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data: d\nout: o\nbugdet: 5%\n")
    with pytest.raises(OptionError, match=r"config\.yaml: .*bugdet\n.*`budget`"):
        parse("finetune", "--config", str(config))


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
def test_invalid_combinations_of_values(name, flags, said):
    with pytest.raises(OptionError, match=said):
        parse(name, *flags)


def test_exit_codes(tmp_path, capsys):
    assert cli.main([]) == 0
    assert cli.main(["fly"]) == 2
    assert "no command `fly`" in capsys.readouterr().err
    assert cli.main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--steps", "0"]) == 2
    assert cli.main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    message = capsys.readouterr().err
    assert "is not a slice store" in message
    assert "→" in message
    assert not (tmp_path / "o").exists()


def test_every_command_is_a_function_of_the_package():
    """Also those of two words."""
    functions = {function_name(name) for name in COMMANDS}
    assert functions == set(frugalseg.__all__) - {
        "__version__",
        "FrugalsegError",
        "Model",
        "Prediction",
        "load",
        "load_plugin",
    }
    assert all(callable(getattr(frugalseg, name)) for name in functions)


def test_an_option_takes_several_of_a_few_values():
    run = ["finetune", "--data", "store", "--out", "run", "--log-to"]
    assert parse(*run, "wandb", "mlflow").log_to == ["wandb", "mlflow"]
    with pytest.raises(OptionError, match="--log-to notebook: expected one of tensorboard, wandb, mlflow"):
        parse(*run, "wandb", "notebook")


def test_a_switch_before_the_command_is_told_its_place(capsys):
    assert cli.main(["-v", "doctor"]) == 2
    assert "-v stands before the command" in capsys.readouterr().err
