"""The command line: table → options → function.

Importing this loads neither torch nor anything else heavy, so `frugalseg --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from frugalseg._version import __version__
from frugalseg.commands import COMMANDS, Command, function_of
from frugalseg.engine.threads import prepare_environment
from frugalseg.errors import FrugalsegError, OptionError, printable, unreadable
from frugalseg.interrupts import STOPPED, as_before, asked, leave_at_once, note_and_raise

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

WITHOUT_VALUE = {"resume": "yes"}
"""Options of several values that may stand alone, and what they then mean."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error the user can mend, 2 for bad options, 130 stopped."""
    leave_at_once()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        as_before()


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        print(f"frugalseg {__version__}")
        return 0
    name, *rest = arguments
    if rest and f"{name} {rest[0]}" in COMMANDS:
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}\n  → choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        options = parse(name, COMMANDS[name], rest)
    except FrugalsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(name, options)


def run(name: str, options: Any) -> int:
    """Call the command's function and turn what a user can mend into a message."""
    prepare_environment(getattr(options, "threads", None))  # before anything that loads PyTorch
    from frugalseg.closing import close
    from frugalseg.engine.progress import never_silent, show_warnings

    show_warnings()
    try:
        command = getattr(import_module(COMMANDS[name].module), function_of(name))
        note_and_raise()
        with never_silent(name):
            close(name, options, command(options))
    except FrugalsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if asked() or isinstance(error, KeyboardInterrupt):
            print("stopped", file=sys.stderr)
            return STOPPED
        vanished = unreadable(error) if isinstance(error, OSError) else None
        if vanished is None:
            raise
        print(f"error: {vanished}", file=sys.stderr)
        return vanished.exit_code
    finally:
        if "torch" in sys.modules:
            from frugalseg.engine.device import leave_processes

            leave_processes()
    return 0


def overview() -> str:
    """What `frugalseg --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: frugalseg COMMAND [options]",
            "",
            "Medical image segmentation from very few annotations.",
            "",
            *lines,
            "",
            "`frugalseg COMMAND --help` lists a command's options. Start with `frugalseg demo`.",
        ]
    )


def parse(name: str, command: Command, arguments: list[str]) -> Any:
    """Arguments → the command's options; flags may also come from `--config file.yaml`.

    Raises:
        OptionError: values that make no sense together. Unknown flags and wrong types end the program with 2.
    """
    if command.first and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{command.first}", *arguments]
    parsed = make_parser(name, command).parse_args(_checked(arguments))
    values = {field.name: getattr(parsed, field.name) for field in fields(command.options)}
    pairs = [name for name, kind in get_type_hints(command.options).items() if _tuple_in(kind) is not None]
    return command.options(**values | {name: tuple(values[name]) for name in pairs if values[name] is not None})


def _checked(arguments: list[str]) -> list[str]:
    """The arguments, which can be written down, and whose configs are of a size that a parser can take.

    Raises:
        OptionError: they are not.
    """
    for argument in arguments:
        if printable(argument) != argument:
            raise OptionError(f"{printable(argument)} is no UTF-8", "rename it")
    for flag, value in pairwise([*arguments, ""]):
        given = value if flag == "--config" else flag.partition("=")[2] if flag.startswith("--config=") else ""
        if given and os.path.isfile(given):  # noqa: PTH113 - of a text that is too long for a name too
            _check_config(Path(given))
    return arguments


def _check_config(path: Path) -> None:
    import yaml

    from frugalseg.engine.yaml_files import load_yaml

    try:
        load_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise OptionError(f"--config {path}, line {line}: {error.problem}", "correct the YAML") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise OptionError(f"--config {path} cannot be read ({error})", "give a YAML file with options") from None


def make_parser(name: str, command: Command) -> ArgumentParser:
    """A parser with one flag a field of the options; help texts are the docstrings under the fields."""
    from docstring_parser import parse_from_object
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"frugalseg {name}", description=command.summary)
    parser.add_argument("--config", action="config", help="A YAML file with any of the options below.")
    texts: dict[str, str] = {}
    for base in reversed(command.options.__mro__[:-1]):
        texts |= {p.arg_name: p.description or "" for p in parse_from_object(base).params}
    types = get_type_hints(command.options)
    for field in fields(command.options):
        flag = "--" + field.name.replace("_", "-")
        settings = _settings(field.name, types[field.name])
        if field.default is not MISSING:
            settings["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
        elif field.default_factory is not MISSING:
            settings["default"] = field.default_factory()
        else:
            settings["required"] = True
        parser.add_argument(flag, help=texts[field.name], **settings)
    return parser


def _settings(name: str, kind: Any) -> dict[str, Any]:
    """How a field of this type is written on the command line."""
    if get_origin(kind) is list:
        return {"type": get_args(kind)[0], "nargs": "+", "action": "extend"}
    if (several := _tuple_in(kind)) is not None:
        return {"type": get_args(several)[0], "nargs": len(get_args(several))}
    if kind is bool:
        return {"type": bool, "nargs": "?", "const": True}
    if name in WITHOUT_VALUE:
        return {"type": kind, "nargs": "?", "const": WITHOUT_VALUE[name]}
    return {"type": kind}


def _tuple_in(kind: Any) -> Any:
    """The tuple that a type is, or may be beside None; else None."""
    return next((one for one in (kind, *get_args(kind)) if get_origin(one) is tuple), None)
