"""Options of a command from values given in Python, and the errors for wrong names and values.

The command line and calls from Python refuse a name or a value with the same sentence.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from frugalseg.commands.help import describe_type, unknown_option_error
from frugalseg.commands.table import Command, required_options, to_flag
from frugalseg.errors import OptionError
from frugalseg.options import OPEN_CHOICES
from frugalseg.options.renamed import RENAMED_VALUES, current_name, current_value
from frugalseg.plugins import describe_failures, find_names

WORDS = {"true": True, "false": False}


def to_options(name: str, command: Command, values: Mapping[str, Any]) -> Any:
    """The options of a command from values by name: paths may be texts, and a list of one value the value itself.

    Raises:
        OptionError: an option is unknown, missing, renamed, or has an invalid value; or options do not fit together.
    """
    check_names(name, command, values, write=str)
    check_required(name, command, [option for option, value in values.items() if value is not None])
    kinds = get_type_hints(command.options)
    given = {option: to_value(name, option, values[option], kinds) for option in values}
    check_open_choices(name, given, kinds)
    return command.options(**given)


def check_open_choices(name: str, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise `OptionError` for a name that neither frugalseg nor a plug-in has, of an option with such names."""
    for option, value in values.items():
        choices, table = find_open_choice(kinds[option])
        if table and value is not None and value not in choices and value not in (added := find_names(table)):
            error = wrong_value_error(name, option, str(value), kinds[option])
            also = "".join(f", {one}" for one in added)
            raise OptionError(f"{error.problem}{also}{describe_failures()}", error.cure)


def find_open_choice(kind: Any) -> tuple[tuple[Any, ...], str]:
    """The choices of an option to which plug-ins add names, and the table of these; empty for other options."""
    found = next((one for one in get_args(kind) if one in OPEN_CHOICES), None)
    return (get_args(found), OPEN_CHOICES[found]) if found is not None else ((), "")


def check_names(
    name: str, command: Command, given: Iterable[str], write: Callable[[str], str], also: Iterable[str] = ()
) -> None:
    """Raise `OptionError` for an option that the command does not have; states the present name of a renamed one.

    Args:
        name, command: of the table of commands.
        given: names of fields.
        write: how the caller writes a name: `to_flag`, or `str`.
        also: names that are allowed beside the fields.
    """
    known = [*(field.name for field in fields(command.options)), *also]
    for option in given:
        if option in known:
            continue
        if (present := current_name(option, known)) != option:
            raise OptionError(f"{write(option)} was renamed", f"write {write(present)}")
        raise unknown_option_error(write(option), name, [write(one) for one in known])


def check_required(name: str, command: Command, given: Iterable[str]) -> None:
    """Raise `OptionError` unless all options without a default are given."""
    if missing := [option for option in required_options(command) if option not in {*given}]:
        flags = " and ".join(map(to_flag, missing))
        raise OptionError(f"`{name}` needs {flags}", f"give {flags}, for example: {command.example}")


def wrong_value_error(name: str, option: str, given: str, kind: Any) -> OptionError:
    """The error for a value that is not of the type of its option."""
    if (option, given) in RENAMED_VALUES:
        flag = to_flag(option)
        return OptionError(f"{flag} {given} was renamed", f"write {flag} {current_value(option, given)}")
    return OptionError(
        f"{to_flag(option)} {given}: expected {describe_type(kind)}",
        f"correct the value; `frugalseg {name} --help` describes it",
    )


def to_value(name: str, option: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    """A value as the type of its option; raises `OptionError`."""
    try:
        return _convert(value, kinds[option])
    except (TypeError, ValueError, OverflowError):
        several = isinstance(value, (list, tuple))
        given = " ".join(map(str, value)) if several else str(value)
        raise wrong_value_error(name, option, given, kinds[option]) from None


def _convert(value: Any, kind: Any) -> Any:
    """`value` as a `kind`, an annotation of an option; raises `TypeError` or `ValueError` where it is none."""
    if kind is type(None):
        if value is not None:
            raise TypeError
        return None
    if get_origin(kind) in (Union, UnionType):
        return _convert_to_first(value, get_args(kind))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if get_origin(kind) is list:
        several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, os.PathLike))
        return [_convert(one, get_args(kind)[0]) for one in (value if several else [value])]
    if get_origin(kind) is tuple:
        return tuple(_convert(one, own) for one, own in zip(_as_sequence(value), get_args(kind), strict=True))
    return CONVERTERS[kind](value)


def _convert_to_first(value: Any, kinds: Iterable[Any]) -> Any:
    """`value` as the first of these types that it can be; None before all others, and a text never as a list."""
    if value is None:
        return _convert(value, type(None) if type(None) in kinds else str)
    single = [kind for kind in kinds if get_origin(kind) is not list and kind is not type(None)]
    if not isinstance(value, (list, tuple)) and single:
        kinds = single
    first, *others = kinds
    try:
        return _convert(value, first)
    except (TypeError, ValueError):
        if not others:
            raise
        return _convert_to_first(value, others)


def _as_sequence(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)):
        raise TypeError
    return [*value]


def _to_bool(value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in WORDS:
            raise ValueError
        return WORDS[value.lower()]
    if not (isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")):  # numpy's too
        raise TypeError
    return bool(value)


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value) if isinstance(value, str) else operator.index(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _to_text(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError
    return text


CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_text,
    Path: lambda value: Path(os.fspath(value)),
}
"""Type of an option → function that converts a value to it, or raises."""
