"""The command reference: one page per command, from the records of its options."""

from __future__ import annotations

from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import get_type_hints

from frugalseg.commands.help import OPTION_GROUPS, describe_type, format_default, format_help, read_option_texts
from frugalseg.commands.table import COMMANDS, Command, to_flag


def write_command_pages(folder: Path) -> None:
    """A page for each command in `folder`, and index.md, which lists them by group."""
    folder.mkdir(parents=True)
    for name, command in COMMANDS.items():
        (folder / f"{_file_name(name)}.md").write_text(format_page(name, command), encoding="utf-8")
    (folder / "index.md").write_text(_format_index(), encoding="utf-8")


def _file_name(name: str) -> str:
    return name.replace(" ", "-")


def _format_index() -> str:
    parts = ["# Commands\n\nEach page is what `frugalseg COMMAND --help` prints.\n"]
    for group, names in groupby(COMMANDS, lambda name: COMMANDS[name].group):
        parts.append(f"## {group[0].upper()}{group[1:]}\n")
        parts += [f"- [{name}]({_file_name(name)}.md): {_mark(COMMANDS[name].summary)}" for name in names]
        parts.append("")
    parts += ["```{toctree}", ":hidden:", "", *map(_file_name, COMMANDS), "```", ""]
    return "\n".join(parts)


def format_page(name: str, command: Command) -> str:
    """A command's page: what it does, its usage, an example, and every option in the groups of `--help`."""
    usage = format_help(name, command).partition("\n\n")[0].removeprefix("usage: ")
    parts = [
        f"# {name}\n\n{_mark(command.description)}\n",
        f"```text\n{' '.join(usage.split())}\n```\n",
        f"For example:\n\n```bash\n{command.example}\n```\n",
        f"```{{program}} frugalseg {name}\n```\n",
    ]
    by_name = {field.name: field for field in fields(command.options)}
    texts, kinds = read_option_texts(command), get_type_hints(command.options)
    for heading, members in OPTION_GROUPS.items():
        shown = [member for member in members if member in by_name]
        if shown:
            parts.append(f"## {heading[0].upper()}{heading[1:]}\n")
        for member in shown:
            kind = describe_type(kinds[member]) + format_default(by_name[member])
            parts.append(f"```{{option}} {to_flag(member)}\n{_mark(texts[member])}\n\n*{kind}*\n```\n")
    return "\n".join(parts)


def _mark(text: str) -> str:
    """A text of `--help` as Markdown: what would be markup in it is text."""
    return text.replace("*", r"\*").replace("<", r"\<").replace("_", r"\_").replace("[", r"\[")
