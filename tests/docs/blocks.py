"""The fenced blocks of the documentation, by kind, and the command lines in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CSV_HEADS = {"name,value,meaning": "segment codes", "name,value\n": "segment values", "case,scanner": "groups"}
"""First characters of a table → its kind."""


class UnknownBlockError(AssertionError):
    """A block, or a line of one, that no rule says how to test."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the Markdown file.
        line: number of its first line.
        language: what the fence states; empty for none.
        text: its content.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.name}, line {self.line}"

    @property
    def kind(self) -> str:
        """What the block is: shell, script, plan, Kubernetes, python, or one of `CSV_HEADS`."""
        if self.language in ("", "bash"):
            return "script" if self.text.startswith("#!") else "shell"
        if self.language == "yaml":
            return "Kubernetes" if "apiVersion" in yaml.safe_load(self.text) else "plan"
        if self.language == "python":
            return "python"
        for head, kind in CSV_HEADS.items():
            if self.language == "text" and self.text.startswith(head):
                return kind
        raise UnknownBlockError(f"{self.place}: no rule for a block of {self.language or 'text'}: {self.text[:40]!r}")

    def command_lines(self) -> Iterator[list[str]]:
        """Each command as the shell splits it, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def find_blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = [Block(page, text[: m.start()].count("\n") + 2, m[1].strip(), m[2]) for m in FENCED.finditer(text)]
    assert 2 * len(blocks) == len(re.findall(r"^ *```", text, re.MULTILINE)), f"{page.name}: a fence is not closed"
    return blocks


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def split_off_command(words: list[str], commands: object) -> tuple[str, list[str]]:
    """The command, of one word or two, and what follows it."""
    count = 2 if " ".join(words[:2]) in commands else 1  # type: ignore[operator]
    return " ".join(words[:count]), words[count:]
