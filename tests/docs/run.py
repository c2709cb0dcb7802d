"""Run the blocks of a page, in order, in one folder, on tiny data."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from frugalseg.cli import main
from frugalseg.commands.table import COMMANDS
from frugalseg.studies.plan import shipped
from tests.annotation.session import serve
from tests.docs.blocks import ROOT, Block, find_blocks, split_off_command
from tests.docs.given import SMALL, Cupboard, shorten_plan
from tests.docs.pages import Page


@dataclass(frozen=True)
class Line:
    """A line of a shell block.

    Attributes:
        text: its words.
        reason: why it was not run, but only parsed; empty if it was run.
    """

    text: str
    reason: str


ELSEWHERE = {
    ".": "every test runs in the environment",
    "pip": "the tests install nothing",
    "make": "builds or tests, which the tests do themselves",
    "ssh": "needs another machine",
    "ray": "needs a cluster",
    "torchrun": "starts several processes",
    "srun": "needs SLURM",
    "docker": "needs Docker",
    "apptainer": "needs Apptainer",
    "rattler-build": "needs rattler-build",
    "conda": "needs conda",
    "pre-commit": "installs a hook in the checkout",
    "python3": "the tests run in an environment already",
}
"""Program → why lines that call it are not run."""


def run_page(page: Path, rules: Page, cupboard: Cupboard, folder: Path, environment: pytest.MonkeyPatch) -> list[Line]:
    """Run a page's blocks in `folder`, which is empty; returns what was done with each line.

    Raises:
        AssertionError: a command failed; the message has the line.
    """
    blocks = find_blocks(page)
    for name, what in rules.has.items():
        if what is not None:
            cupboard.put(what, folder / name)
    for name, start in rules.files.items():
        (block,) = (block for block in blocks if block.text.startswith(start))
        text = yaml.safe_dump(shorten_plan(yaml.safe_load(block.text))) if block.kind == "plan" else block.text
        (folder / name).write_text(text, encoding="utf-8")
    environment.chdir(folder)
    environment.setattr(shipped, "SHIPPED_PLANS", cupboard.find("plans"))
    lines = [(block, words) for block in blocks if block.kind == "shell" for words in block.command_lines()]
    return [_run_line(block, words, rules, environment) for block, words in lines]


def _run_line(block: Block, words: list[str], rules: Page, environment: pytest.MonkeyPatch) -> Line:
    line = " ".join(words)
    program = words[0].removeprefix(".venv/bin/")
    reason = next((why for part, why in rules.parsed.items() if part in line), None)
    if reason is None and words != ["make", "demo"]:
        reason = ELSEWHERE.get("pip" if words[1:3] == ["-m", "pip"] else program)
    if reason is not None:
        return Line(line, reason)
    words = [found for word in words for found in _expand(rules.replaced.get(word, word))]
    if program == "export":
        environment.setenv(*words[1].replace("/shared", "shared").split("="))
    elif program == "python":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, f"{block.place}: {line}: {done.stderr}"
    else:
        _run_frugalseg(block, _demo_of_makefile() if program == "make" else words[1:])
    return Line(line, "")


def _expand(word: str) -> list[str]:
    """The shell's expansion of * in names of the working folder."""
    found = sorted(map(str, Path().glob(word))) if "*" in word and not re.search(r"[\s(]", word) else []
    return found or [word]


def _demo_of_makefile() -> list[str]:
    line = re.search(r"^\t\$\(BIN\)/frugalseg (demo.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    return line[1].split()


def _run_frugalseg(block: Block, words: list[str]) -> None:
    name, rest = split_off_command(words, COMMANDS)
    if name == "annotate":
        rest = [word for word in rest if word != "--no-browser"]
        own = [*(["--phantoms", "1"] if "--demo" in rest else []), "--out", f"annotated-{block.line}-{len(words)}"]
        with serve(*rest, *own) as (address, _):
            assert address.startswith("http://127.0.0.1:")
        return
    code = main([*words, *SMALL.get(name, [])])
    assert code == 0, f"{block.place}: frugalseg {' '.join(words)}: exit code {code}"
