"""Scripts of `frugalseg completion`, run in the shells that are here."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from frugalseg.cli import main
from frugalseg.commands.completion import SCRIPTS
from frugalseg.commands.table import COMMANDS


def complete(*words):
    """What bash offers for the last word."""
    script = SCRIPTS["bash"]()
    quoted = " ".join(f"'{word}'" for word in words)
    code = f'{script}\nCOMP_WORDS=(frugalseg {quoted})\nCOMP_CWORD={len(words)}\n_frugalseg\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fine"], ["finetune"]),
        (["sam-mix", ""], ["train", "predict", "evaluate"]),
        (["sam-mix", "train", "--adapt", ""], ["lora", "decoder"]),
        (["finetune", "--bud"], ["--budget"]),
        (["finetune", "--data", "store", "--preset", "p"], ["paper"]),
        (["predict", "--tta", "t"], ["true"]),
        (["finetune", "--data", ""], []),  # bash then completes files
        (["weights", "l"], ["list"]),
        (["finetune", "--js"], ["--json"]),
        (["completion", "--shell", "z"], ["zsh"]),
    ],
)
def test_bash_completes(words, offered):
    assert complete(*words) == offered


def test_bash_completes_all_commands_and_options():
    assert complete("") == list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    assert {"--images", "--tta-degrees", "--json", "--help"} <= {*complete("predict", "--images", "scans", "")}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(SCRIPTS[shell]())
    done = subprocess.run([shell, str(tmp_path / "script")], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_script_of_fish_has_every_command_and_choice():
    script = SCRIPTS["fish"]()
    for command in COMMANDS.values():
        assert command.summary.replace("'", "'\"'\"'") in script
    assert "-l preset -x -a 'robust paper supercl best'" in script


def test_the_command_prints_its_script(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == SCRIPTS["bash"]()
