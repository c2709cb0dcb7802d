"""The command line: reads flags and YAML files into options, and calls the command's function.

Importing this loads neither torch nor anything else heavy, so `frugalseg --help` answers immediately.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import MISSING, fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from frugalseg._version import __version__
from frugalseg.commands.help import (
    find_subcommands,
    format_help,
    format_overview,
    format_subcommands,
    unknown_command_error,
)
from frugalseg.commands.switches import Switches, split_switches
from frugalseg.commands.table import COMMANDS, Command, function_name, to_flag
from frugalseg.commands.values import check_names, check_open_choices, check_required, wrong_value_error
from frugalseg.engine.threads import prepare_environment
from frugalseg.errors import FrugalsegError, OptionError, to_printable, vanished_file_error
from frugalseg.interrupts import STOPPED, exit_on_ctrl_c, raise_on_ctrl_c, restore_ctrl_c, was_interrupted
from frugalseg.plugins import load_plugin

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

HELP = {"-h", "--help"}
IMPLIED_VALUES = {"resume": "yes"}
"""Options that may be given without a value → the value this means."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 error that the user can correct, 2 wrong options, 130 stopped."""
    exit_on_ctrl_c()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        restore_ctrl_c()


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {*HELP, "help"}:
        print(format_overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        print(f"frugalseg {__version__}")
        return 0
    name, *rest = arguments
    if rest and f"{name} {rest[0]}" in COMMANDS:
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    try:
        if name not in COMMANDS and rest[:1] and rest[0] in HELP and find_subcommands(name):
            print(format_subcommands(name))
            return 0
        if name not in COMMANDS:
            raise unknown_command_error([name, *rest])
        if HELP & {*rest}:
            print(format_help(name, COMMANDS[name]), end="")
            return 0
        switches, rest = split_switches(rest, COMMANDS[name])
        for module in switches.plugin:
            load_plugin(module)
        options = parse(name, COMMANDS[name], rest)
    except FrugalsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(name, options, switches)


def run(name: str, options: Any, switches: Switches = Switches()) -> int:  # noqa: B008 - frozen
    """Call the command's function, and turn errors that a user can correct into messages; returns the exit code."""
    prepare_environment(getattr(options, "threads", None))  # before anything that loads PyTorch
    from frugalseg.engine.progress import heartbeat, set_verbosity, show_warnings

    show_warnings()
    set_verbosity("quiet" if switches.quiet else "verbose" if switches.verbose else "normal")
    try:
        command = getattr(import_module(COMMANDS[name].module), function_name(name))
        raise_on_ctrl_c()
        with heartbeat(name):
            _show(name, options, command, switches)
    except FrugalsegError as error:
        if switches.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if was_interrupted() or isinstance(error, KeyboardInterrupt):
            print("stopped", file=sys.stderr)
            return STOPPED
        vanished = vanished_file_error(error) if isinstance(error, OSError) else None
        if vanished is None:
            raise
        print(f"error: {vanished}", file=sys.stderr)
        return vanished.exit_code
    finally:
        if "torch" in sys.modules:
            from frugalseg.engine.device import leave_process_group

            leave_process_group()
    return 0


def _show(name: str, options: Any, command: Callable[[Any], Any], switches: Switches) -> None:
    """Call the command, and print its result for people or as JSON."""
    from frugalseg.commands.result_lines import say_result, tell_settings, tell_usage

    begun = time.monotonic()
    tell_settings(name, options)
    if not switches.json:
        say_result(name, options, command(options))
    else:
        with redirect_stdout(sys.stderr):  # what the command prints for people
            returned = command(options)
        from frugalseg.commands.results import to_json_result

        print(
            json.dumps(to_json_result(name, options, returned, time.monotonic() - begun), ensure_ascii=False, indent=2)
        )
    tell_usage(begun)


def parse(name: str, command: Command, arguments: list[str]) -> Any:
    """Arguments → the command's options; flags may also come from `--config file.yaml`.

    Raises:
        OptionError: an option is unknown, missing, renamed, or has an invalid value; or options do not fit together.
    """
    if command.first and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{command.first}", *arguments]
    _check_arguments(name, command, arguments)
    parsed = _parse_arguments(name, command, arguments)
    values = {field.name: getattr(parsed, field.name) for field in fields(command.options)}
    check_required(name, command, [option for option, value in values.items() if value is not None])
    kinds = get_type_hints(command.options)
    check_open_choices(name, values, kinds)
    pairs = [name for name, kind in kinds.items() if _find(kind, tuple) is not None]
    return command.options(**values | {name: tuple(values[name]) for name in pairs if values[name] is not None})


def _check_arguments(name: str, command: Command, arguments: list[str]) -> None:
    """Raise `OptionError` unless all arguments are UTF-8, all options exist, and config files can be parsed."""
    for argument in arguments:
        if to_printable(argument) != argument:
            raise OptionError(f"{to_printable(argument)} is not UTF-8", "rename it")
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    _check_names(name, command, [flag for flag in flags if not flag.startswith("--print_config")], as_flags=True)
    for flag, value in pairwise([*arguments, ""]):
        given = value if flag == "--config" else flag.partition("=")[2] if flag.startswith("--config=") else ""
        if given and os.path.isfile(given):  # noqa: PTH113 - Path.is_file raises for a text that is too long for a name
            _check_config(name, command, Path(given))


def _check_names(name: str, command: Command, given: Iterable[str], *, as_flags: bool) -> None:
    """Raise `OptionError` for an option that the command does not have; states the present name of a renamed one."""
    by_flag = {to_flag(field.name): field.name for field in fields(command.options)}
    read = [by_flag.get(one, one[2:].replace("-", "_")) for one in given] if as_flags else list(given)
    check_names(name, command, read, to_flag if as_flags else str, also=["config"])


def _check_config(name: str, command: Command, path: Path) -> None:
    import yaml

    from frugalseg.engine.yaml_files import load_yaml

    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise OptionError(f"--config {path}, line {line}: {error.problem}", "correct the YAML") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise OptionError(f"--config {path} cannot be read ({error})", "give a YAML file with options") from None
    if isinstance(content, dict):
        try:
            _check_names(name, command, map(str, content), as_flags=False)
        except OptionError as error:
            raise OptionError(f"--config {path}: {error.problem}", error.cure) from None


def _parse_arguments(name: str, command: Command, arguments: list[str]) -> Any:
    """The values as jsonargparse reads them; raises `OptionError` for values that it refuses."""
    from argparse import ArgumentError

    try:
        return make_parser(name, command).parse_args(arguments)
    except ArgumentError as error:
        raise _to_option_error(name, command, str(error)) from None


_KEY = re.compile(r'^Parser key "(\w+)"')
_VALUE = re.compile(r"(?:Got|Given) value: (.*)$", re.DOTALL)
_CHOICE = re.compile(r"^argument --([\w-]+): invalid choice: '(.*)' \(choose from", re.DOTALL)
"""argparse's message for one of several values."""


def _to_option_error(name: str, command: Command, message: str) -> OptionError:
    """jsonargparse's message as an error that names the option, its value, and what is expected."""
    kinds = get_type_hints(command.options)
    if choice := _CHOICE.search(message):
        option = choice[1].replace("-", "_")
        return wrong_value_error(name, option, choice[2], kinds[option])
    key, value = _KEY.search(message), _VALUE.search(message)
    if key is None or value is None or key[1] not in kinds:
        return OptionError(message.removeprefix("argument "), f"`frugalseg {name} --help` lists every option")
    return wrong_value_error(name, key[1], value[1].strip(), kinds[key[1]])


def make_parser(name: str, command: Command) -> ArgumentParser:
    """A parser with one flag per field of the options."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"frugalseg {name}", add_help=False, exit_on_error=False)
    parser.add_argument("--config", action="config")
    types = get_type_hints(command.options)
    for field in fields(command.options):
        settings = _argument_settings(field.name, types[field.name])
        if field.default is not MISSING:
            settings["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
        elif field.default_factory is not MISSING:
            settings["default"] = field.default_factory()
        parser.add_argument(to_flag(field.name), dest=field.name, **settings)
    return parser


def _argument_settings(name: str, kind: Any) -> dict[str, Any]:
    """Settings of `add_argument` for a field of this type."""
    if (listed := _find(kind, list)) is not None:
        kind = get_args(listed)[0]
        one = {"type": str, "choices": get_args(kind)} if get_origin(kind) is Literal else {"type": kind}
        return {**one, "nargs": "+", "action": "extend"}
    if (several := _find(kind, tuple)) is not None:
        return {"type": get_args(several)[0], "nargs": len(get_args(several))}
    if kind is bool:
        return {"type": bool, "nargs": "?", "const": True}
    if name in IMPLIED_VALUES:
        return {"type": kind, "nargs": "?", "const": IMPLIED_VALUES[name]}
    return {"type": kind}


def _find(kind: Any, container: type) -> Any:
    """The type of this container in `kind`, which may be a union; otherwise None."""
    return next((one for one in (kind, *get_args(kind)) if get_origin(one) is container), None)
