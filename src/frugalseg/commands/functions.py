"""Commands as Python functions of keywords: `frugalseg.prepare(images="scans", out="store")`.

Each has a signature and a docstring made from the dataclass of its options, which `help` shows.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from typing import Any, get_type_hints

from frugalseg.commands.help import OPTION_GROUPS, read_option_texts
from frugalseg.commands.table import COMMANDS, Command, function_name
from frugalseg.commands.values import to_options
from frugalseg.engine.threads import wait_passively
from frugalseg.errors import OptionError

WIDTH = 100
"""Characters of a line of a docstring."""
NAMES = {function_name(name): name for name in COMMANDS}
"""Function → command."""


def make_function(function: str) -> Callable[..., Any]:
    """The command as a function that takes its options by keyword, or one record of options.

    The module of the command is imported with the first call.
    """
    name = NAMES[function]
    command = COMMANDS[name]

    def call(*given: Any, **options: Any) -> Any:
        wait_passively()  # effective only if PyTorch is not loaded yet
        options = _read_arguments(name, command, given, options)
        return getattr(import_module(command.module), function)(options)

    call.__name__ = call.__qualname__ = function
    call.__module__ = "frugalseg"
    call.__doc__ = format_docstring(name, command)
    call.__signature__ = make_signature(command)  # type: ignore[attr-defined]
    return call


def _read_arguments(name: str, command: Command, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The options of a call; raises `OptionError`."""
    if len(given) == 1 and isinstance(given[0], command.options):
        if options:
            raise OptionError(f"`{name}` was given a record of options and {next(iter(options))} too", "give one")
        return given[0]
    if command.first and len(given) == 1 and command.first not in options:
        options, given = {command.first: given[0], **options}, ()
    if given:
        raise OptionError(
            f"`{name}` was given {given[0]!r} without the name of an option",
            f"write for example {function_name(name)}({next(iter(fields(command.options))).name}=…)",
        )
    return to_options(name, command, options)


def make_signature(command: Command) -> inspect.Signature:
    """The signature with every option as a keyword; `first` may be given by its place."""
    kinds = get_type_hints(command.options)
    first = [field for field in fields(command.options) if field.name == command.first]
    others = [field for field in fields(command.options) if field.name != command.first]
    return inspect.Signature(
        [
            *(_make_parameter(field, kinds, inspect.Parameter.POSITIONAL_OR_KEYWORD) for field in first),
            *(_make_parameter(field, kinds, inspect.Parameter.KEYWORD_ONLY) for field in others),
        ]
    )


def _make_parameter(field: Field[Any], kinds: dict[str, Any], kind: Any) -> inspect.Parameter:
    default = default_value(field)
    return inspect.Parameter(
        field.name,
        kind,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=kinds[field.name],
    )


def default_value(field: Field[Any]) -> Any:
    """The default of an option; `MISSING` where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def format_docstring(name: str, command: Command) -> str:
    """What `help` shows: what the command does, and each option with its text."""
    example = f"On the command line: {command.example}"
    return "\n".join([command.description, "", *_format_options(command), example, ""])


def _format_options(command: Command) -> Iterator[str]:
    texts = read_option_texts(command)
    for title, members in OPTION_GROUPS.items():
        shown = [member for member in members if member in texts and member != "config"]
        if shown:
            yield f"{title}:"
        for member in shown:
            yield from textwrap.wrap(
                f"{member}: {texts[member]}",
                WIDTH,
                initial_indent="    ",
                subsequent_indent="        ",
                break_on_hyphens=False,
                break_long_words=False,
            )
        if shown:
            yield ""
