"""The reference of the Python interface: what `import frugalseg` offers, from its docstrings."""

from __future__ import annotations

import dataclasses
import inspect

import frugalseg
from frugalseg import errors, options

HEAD = """# Python

{intro}

## Functions

{functions}

## Options

A field's text is also the `--help` of its option; [each command's page](commands/index.md) has them in groups.

{options}

## Errors

{errors}
"""


def format_python_page() -> str:
    """The page, with the directives that Sphinx fills from the docstrings."""
    names = [name for name in frugalseg.__all__ if not name.startswith("_")]
    records = [
        name
        for name in options.__all__
        if inspect.isclass(record := getattr(options, name)) and dataclasses.is_dataclass(record)
    ]
    kinds = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    return HEAD.format(
        intro=inspect.getdoc(frugalseg),
        functions=_directives([("autofunction", f"frugalseg.{name}") for name in names]),
        options=_directives([("autoclass", f"frugalseg.options.{name}") for name in records], "members"),
        errors=_directives([("autoexception", f"frugalseg.errors.{name}") for name in kinds], "members"),
    )


def _directives(named: list[tuple[str, str]], *flags: str) -> str:
    lines = ["```{eval-rst}"]
    for directive, name in named:
        lines += [f".. {directive}:: {name}", *(f"   :{flag}:" for flag in flags), ""]
    return "\n".join([*lines, "```"])
