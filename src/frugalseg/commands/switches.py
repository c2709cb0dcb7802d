"""Switches that every command understands: --json, --quiet, --verbose, --plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from frugalseg.commands.table import Command
from frugalseg.errors import OptionError

PLUGIN = "--plugin"
SWITCH_TEXTS = {
    "--json": "Print the result as JSON on standard output, and nothing else there (docs/reference/json.md).",
    "-q, --quiet": "Print warnings, errors and results only.",
    "-v, --verbose": "Also print the options in use, versions, peak memory, and where an error was raised.",
    PLUGIN: "Import a module with backbones, methods, metrics or promptable models of your own, beside "
    "installed plug-ins (docs/how-to/plugins.md). May be given several times.",
}
"""Switch → its text in the help."""
FIELDS = {"--json": "json", "--quiet": "quiet", "--verbose": "verbose"}
LONG = {"-q": "--quiet", "-v": "--verbose"}


@dataclass(frozen=True)
class Switches:
    """The switches of one call.

    Attributes:
        json: whether standard output is JSON.
        quiet, verbose: less or more than usual on standard error.
        plugin: modules of plug-ins.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    plugin: tuple[str, ...] = ()


def split_switches(arguments: Sequence[str], command: Command) -> tuple[Switches, list[str]]:
    """The switches among the arguments of a command, and the other arguments.

    A command that has an option of the same name keeps it.

    Raises:
        OptionError: --plugin without a module, or --quiet with --verbose.
    """
    own = {f"--{field.name}" for field in fields(command.options)}
    found, others = Switches(), []
    words = list(arguments)
    while words:
        given = words.pop(0)
        flag, _, value = LONG.get(given, given).partition("=")
        if flag in own or flag not in (PLUGIN, *FIELDS):
            others.append(given)
        elif flag == PLUGIN:
            found = replace(found, plugin=(*found.plugin, value or _next_module(words)))
        else:
            changes: dict[str, Any] = {FIELDS[flag]: _read_switch(flag, value)}
            found = replace(found, **changes)
    if found.quiet and found.verbose:
        raise OptionError("--quiet and --verbose were both given", "give one of them")
    return found, others


def _next_module(words: list[str]) -> str:
    if not words or words[0].startswith("-"):
        raise OptionError("--plugin was given without a module", "give for example --plugin my_package.my_module")
    return words.pop(0)


def _read_switch(flag: str, value: str) -> bool:
    if value not in ("", "true", "false"):
        raise OptionError(f"{flag} {value}: expected true or false", f"write {flag} alone")
    return value != "false"
