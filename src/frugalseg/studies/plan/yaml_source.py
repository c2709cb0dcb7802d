"""YAML whose values know on which line they stand, so that an error can point there."""

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

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_FLAG = re.compile(r"(?<![^\s(])--([a-z]+(?:-[a-z]+)*)")
_DEEPEST = 20


@dataclass(frozen=True)
class YamlValue:
    """One value of a YAML file.

    Attributes:
        node: what the YAML parser made of it.
        file: the file.
        key: where it stands, from the outside in: `methods.scratch.finetune`; empty for the whole file.
        line: counted from 1; of a mapping's value, the line of its key.
    """

    node: yaml.Node
    file: Path
    key: str
    line: int

    def error(self, problem: str, cure: str) -> OptionError:
        """An error that names the file, the line and the key."""
        where = f"{self.file}, line {self.line}"
        return OptionError(f"{where}: {self.key + ': ' if self.key else ''}{problem}", cure)

    def mapping(self) -> dict[str, YamlValue]:
        """Key → value; an empty value is an empty mapping.

        Raises:
            OptionError: it is no mapping, or a key stands in it twice.
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
                raise entry.error("too many levels", "does an alias contain itself?")
            entries[name] = entry
        return entries

    def known(self, *names: str) -> dict[str, YamlValue]:
        """The mapping, all of whose keys must be among `names`."""
        entries = self.mapping()
        for name, entry in entries.items():
            if name not in names:
                raise entry.error("is unknown here", f"known are: {', '.join(names)}")
        return entries

    def items(self) -> list[YamlValue]:
        """The values of a list.

        Raises:
            OptionError: it is no list, or an empty one.
        """
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.error("expected a list", "write it as [one, another]")
        return [YamlValue(n, self.file, self.key, n.start_mark.line + 1) for n in self.node.value]

    @property
    def is_text(self) -> bool:
        """Whether a single value stands behind the key, no list and no mapping."""
        return isinstance(self.node, yaml.ScalarNode) and not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written behind the key."""
        return isinstance(self.node, yaml.ScalarNode) and self.plain() is None

    def plain(self) -> Any:
        """The value as plain Python data, environment variables `${NAME}` put in.

        Raises:
            OptionError: a variable is not set, or the value is no plain data.
        """
        try:
            value = yaml.constructor.SafeConstructor().construct_document(self.node)
        except yaml.YAMLError as error:
            raise self.error(f"cannot be read ({getattr(error, 'problem', error)})", "correct it") from error
        return self._expand(value)

    def as_type(self, kind: Any) -> Any:
        """The value as `kind`, a type annotation; a relative path is taken from the file's folder.

        Raises:
            OptionError: it is of another type, or none of the values a `Literal` lists.
        """
        value = self.plain()
        try:
            return convert(value, kind, self.file.parent)
        except ValueError as error:
            raise self.error(f"{value!r} is not {error}", "correct the value") from None

    def _expand(self, value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(self._variable, value)
        if isinstance(value, list):
            return [self._expand(v) for v in value]
        if isinstance(value, dict):
            return {k: self._expand(v) for k, v in value.items()}
        return value

    def _variable(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise self.error(f"the environment variable {name} is not set", f"run `export {name}=…` first")
        return os.environ[name]


def without_flags(text: str) -> str:
    """Options as a YAML file writes them, not the command line: --batch-size becomes batch_size."""
    return _FLAG.sub(lambda flag: flag[1].replace("-", "_"), text)


def read_lines(path: Path) -> YamlValue:
    """The whole of a YAML file as one entry.

    Raises:
        OptionError: the file is not there, not readable, or no YAML.
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
        raise OptionError(f"{path} does not exist", "check the path; the folder plans/ holds some plans") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read ({error})", "give a plan, a YAML file") from error
    if node is None:
        raise OptionError(f"{path} is empty", "write a plan; the folder plans/ holds some")
    return YamlValue(node, path, "", 1)


def convert(value: Any, kind: Any, folder: Path) -> Any:
    """`value` from YAML as the annotation `kind` wants it; raises `ValueError` saying what was expected."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in inner and not isinstance(value, bool):
            return value
        raise ValueError(f"one of {', '.join(map(str, inner))}")
    if origin in (Union, UnionType):
        if value is None and type(None) in inner:
            return None
        return convert(value, next(k for k in inner if k is not type(None)), folder)
    if origin is list:
        listed = value if isinstance(value, list) else [value]
        return [convert(v, inner[0], folder) for v in listed]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(inner):
            raise ValueError(f"a list of {len(inner)} values")
        return tuple(convert(v, k, folder) for v, k in zip(value, inner, strict=True))
    return _SIMPLE[kind](value, folder)


def _boolean(value: Any, _: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _integer(value: Any, _: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _number(value: Any, _: Path) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # YAML takes 1e-4 for a text
    except (TypeError, ValueError):
        raise ValueError("a number") from None


def _text(value: Any, _: Path) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError("a text")
    return str(value)


def _path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("a path")
    return (folder / Path(value).expanduser()).resolve()


_SIMPLE = {bool: _boolean, int: _integer, float: _number, str: _text, Path: _path}
