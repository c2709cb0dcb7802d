"""Generate `src/frugalseg/__init__.pyi`, the types of the Python interface, from the table of commands.

    python benchmarks/api_stub.py

tests/test_api.py fails while the file differs from what this writes.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from frugalseg.commands.functions import make_signature
from frugalseg.commands.table import COMMANDS, Command, function_name
from frugalseg.options import PredictOptions

FILE = Path(__file__).resolve().parents[1] / "src" / "frugalseg" / "__init__.pyi"
HEAD = '''"""Types of the Python interface; written by benchmarks/api_stub.py, never by hand."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from frugalseg._version import __version__ as __version__
from frugalseg.commands.load import Model as Model
from frugalseg.commands.load import Prediction as Prediction
from frugalseg.errors import FrugalsegError as FrugalsegError
from frugalseg.plugins import load_plugin as load_plugin
'''
ALIAS = "StrPath: TypeAlias = str | PathLike[str]"
PLAIN = {Path: "StrPath", int: "int", float: "float", str: "str", bool: "bool", type(None): "None"}
BUILTIN = {"list", "dict", "str", "int", "float", "tuple", "None", "object", "Path", "Any"}


def make_stub() -> str:
    """The text of the file."""
    imports: dict[str, set[str]] = {}
    parts = [part for name, command in COMMANDS.items() for part in _format_command(name, command, imports)]
    lines = [f"from {module} import {name}" for module, names in sorted(imports.items()) for name in sorted(names)]
    return "\n".join([HEAD + "\n".join(lines), "", ALIAS, "", *_format_load(), *parts]).rstrip() + "\n"


def _format_command(name: str, command: Command, imports: dict[str, set[str]]) -> Iterator[str]:
    function = function_name(name)
    returned = _find_returned(command.module, function, imports)
    imports.setdefault(command.options.__module__, set()).add(command.options.__name__)
    yield f"@overload\ndef {function}(options: {command.options.__name__}, /) -> {returned}: ..."
    parameters = "\n".join(f"    {line}," for line in _format_parameters(make_signature(command)))
    yield f"@overload\ndef {function}(\n{parameters}\n) -> {returned}:"
    yield f'    """{command.summary}"""\n'


def _format_load() -> Iterator[str]:
    kinds = get_type_hints(PredictOptions)
    from frugalseg.commands.load import OPTIONS

    yield "def load(\n    *models: StrPath | Sequence[StrPath],"
    yield from (f"    {name}: {format_type(kinds[name])} = ...," for name in OPTIONS)
    yield ') -> Model:\n    """Load a trained model from its run folder; several are averaged."""\n'


def _format_parameters(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        given = "" if parameter.default is inspect.Parameter.empty else " = ..."
        yield f"{parameter.name}: {format_type(parameter.annotation)}{given}"


def format_type(kind: Any) -> str:
    """The type of a keyword for an option of this type: what `commands.values` converts."""
    if kind in PLAIN:
        return PLAIN[kind]
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]".replace("'", '"')
    if get_origin(kind) in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(part for one in inner for part in format_type(one).split(" | ")))
    if get_origin(kind) is list:
        return f"Sequence[{format_type(inner[0])}] | {format_type(inner[0])}"
    return f"Sequence[{format_type(inner[0])}]"


def _find_returned(module: str, function: str, imports: dict[str, set[str]]) -> str:
    """The annotation of what a function returns; the classes in it are added to the imports."""
    home = import_module(module)
    annotation = str(inspect.signature(getattr(home, function)).return_annotation)
    for name in {*re.findall(r"[A-Za-z_]\w*", annotation)} - BUILTIN:
        imports.setdefault(getattr(home, name).__module__, set()).add(name)
    return annotation


if __name__ == "__main__":
    FILE.write_text(make_stub(), encoding="utf-8")
