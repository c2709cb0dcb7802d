"""YAML values with their line numbers, for error messages."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from frugalseg.engine.yaml_files import check_expanded_size
from frugalseg.errors import OptionError
from frugalseg.options import OPEN_CHOICES
from frugalseg.plugins import find_names

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_FLAG = re.compile(r"(?<![^\s(])--([a-z]+(?:-[a-z]+)*)")
_DEEPEST = 20


@dataclass(frozen=True)
class YamlValue:
    """One value of a YAML file.

    Attributes:
        node: the parsed YAML node.
        file: the file.
        key: its path in the file, as `methods.scratch.finetune`; empty for the whole file.
        line: counted from 1; for a mapping's value, the line of its key.
    """

    node: yaml.Node
    file: Path
    key: str
    line: int

    def error(self, problem: str, cure: str) -> OptionError:
        """An error with the file, the line and the key."""
        where = f"{self.file}, line {self.line}"
        return OptionError(f"{where}: {self.key + ': ' if self.key else ''}{problem}", cure)

    def mapping(self) -> dict[str, YamlValue]:
        """Key → value; an empty value is an empty mapping.

        Raises:
            OptionError: it is not a mapping, or a key occurs twice.
        """
        if self.is_empty:
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected names with values", "write them as `name: value`, one a line")
        entries: dict[str, YamlValue] = {}
        for name_node, value_node in self.node.value:
            name = str(name_node.value)
            entry = YamlValue(value_node, self.file, f"{self.key}.{name}".lstrip("."), name_node.start_mark.line + 1)
            if name in entries:
                raise entry.error(f"is given here and on line {entries[name].line}", "keep one of them")
            if entry.key.count(".") > _DEEPEST:
                raise entry.error("too many levels", "check whether an alias contains itself")
            entries[name] = entry
        return entries

    def check_keys(self, *names: str) -> dict[str, YamlValue]:
        """The mapping; raises `OptionError` for a key that is not among `names`."""
        entries = self.mapping()
        for name, entry in entries.items():
            if name not in names:
                raise entry.error("is unknown here", f"known are: {', '.join(names)}")
        return entries

    def read_list(self) -> list[YamlValue]:
        """The values of a list.

        Raises:
            OptionError: it is not a list, or an empty one.
        """
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.error("expected a list", "write it as [one, another]")
        return [YamlValue(n, self.file, self.key, n.start_mark.line + 1) for n in self.node.value]

    @property
    def is_text(self) -> bool:
        """Whether the value is a scalar: not empty, no list and no mapping."""
        return isinstance(self.node, yaml.ScalarNode) and not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether the key has no value."""
        return isinstance(self.node, yaml.ScalarNode) and self.to_python() is None

    def to_python(self) -> Any:
        """The value as plain Python data, with environment variables `${NAME}` replaced.

        Raises:
            OptionError: a variable is not set, or the value is not plain data.
        """
        try:
            value = yaml.constructor.SafeConstructor().construct_document(self.node)
        except yaml.YAMLError as error:
            raise self.error(f"cannot be read ({getattr(error, 'problem', error)})", "correct it") from error
        return self._expand(value)

    def as_type(self, kind: Any) -> Any:
        """The value as `kind`, a type annotation; a relative path is resolved from the file's folder.

        Raises:
            OptionError: it has another type, or is not among the values of a `Literal`.
        """
        value, written = self.to_python(), self._read_texts()
        try:
            return convert_value(value, written, kind, self.file.parent)
        except ValueError as error:
            raise self.error(f"{self._describe(value, written)} is not {error}", "correct the value") from None

    def _describe(self, value: Any, written: Any) -> str:
        if self.is_empty:
            return "an empty value"
        return str(written) if self.is_text and not isinstance(value, str) else repr(value)

    def _read_texts(self) -> Any:
        """The value with every scalar as the text in the file, where YAML reads 32 as a number and yes as true."""
        return self._expand(yaml.constructor.BaseConstructor().construct_document(self.node))

    def _expand(self, value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(self._read_variable, value)
        if isinstance(value, list):
            return [self._expand(v) for v in value]
        if isinstance(value, dict):
            return {k: self._expand(v) for k, v in value.items()}
        return value

    def _read_variable(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise self.error(f"the environment variable {name} is not set", f"run `export {name}=…` first")
        return os.environ[name]


def flags_to_keys(text: str) -> str:
    """The text with command-line flags replaced by YAML keys: --batch-size becomes batch_size."""
    return _FLAG.sub(lambda flag: flag[1].replace("-", "_"), text)


def read_yaml(path: Path) -> YamlValue:
    """The content of a YAML file as one value.

    Raises:
        OptionError: the file does not exist, cannot be read, or is not YAML.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if node is not None:
            check_expanded_size(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise OptionError(f"{path}, line {line}: {error.problem}", "correct the YAML") from error
    except IsADirectoryError:
        raise OptionError(f"{path} is a folder", "give a plan, a YAML file") from None
    except FileNotFoundError:
        raise OptionError(f"{path} does not exist", "check the path") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read ({error})", "give a plan, a YAML file") from error
    if node is None:
        raise OptionError(f"{path} is empty", "write a plan; `frugalseg study smoke` runs an example")
    return YamlValue(node, path, "", 1)


def convert_value(value: Any, written: Any, kind: Any, folder: Path) -> Any:
    """A value from YAML converted to a type annotation.

    Args:
        value: as YAML reads it.
        written: the same with every scalar as text.
        kind: the annotation.
        folder: that relative paths start from.

    Raises:
        ValueError: says what was expected.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if written in inner:
            return written
        raise ValueError(f"one of {', '.join(map(str, inner))}")
    if origin in (Union, UnionType):
        if value is None and type(None) in inner:
            return None
        first = next(k for k in inner if k is not type(None))
        if first in OPEN_CHOICES and written in find_names(OPEN_CHOICES[first]):
            return written
        return convert_value(value, written, first, folder)
    if origin is list:
        pairs = zip(value, written, strict=True) if isinstance(value, list) else [(value, written)]
        return [convert_value(v, w, inner[0], folder) for v, w in pairs]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(inner):
            raise ValueError(f"a list of {len(inner)} values")
        return tuple(convert_value(v, w, k, folder) for v, w, k in zip(value, written, inner, strict=True))
    return _SIMPLE[kind](value, written, folder)


def _to_boolean(value: Any, written: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _to_integer(value: Any, written: Any, folder: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _to_number(value: Any, written: Any, folder: Path) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # PyYAML reads 1e-4 as text
    except (TypeError, ValueError):
        raise ValueError("a number") from None


def _to_text(value: Any, written: Any, folder: Path) -> str:
    if value is None or not isinstance(written, str):
        raise ValueError("a text")
    return written


def _to_path(value: Any, written: Any, folder: Path) -> Path:
    if value is None or not isinstance(written, str) or not written:
        raise ValueError("a path")
    return (folder / Path(written).expanduser()).resolve()


_SIMPLE = {bool: _to_boolean, int: _to_integer, float: _to_number, str: _to_text, Path: _to_path}
