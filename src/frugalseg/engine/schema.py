"""Reading and checking this program's own YAML and JSON files other than records (`frugalseg.records`).

A `Schema` states what a file must contain to be used; keys that only some versions write are optional.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

import yaml

from frugalseg.errors import FrugalsegError, to_printable

MAX_VALUE_LENGTH = 60
"""Characters of a wrong value that a message shows."""

Needed = Any
"""Type of a value: a type (`object`: anything) or several (`str | None`); `float` includes whole numbers, and numbers
exclude bool. `[x]`: a list of x. `{str: x}`: any keys, each with x. `{"name": x, "other?": y}`: these keys, `other`
being optional; further keys are allowed."""


@dataclass(frozen=True)
class Schema:
    """Expected content of a file.

    Attributes:
        needed: type of the content.
        error: class of the error for a damaged file.
        cure: what the user can do about it.
        parse: text → content.
        valid: raises where values of the right types are invalid.
    """

    needed: Needed
    error: type[FrugalsegError]
    cure: str
    parse: Callable[[str], Any] = json.loads
    valid: Callable[[Any], object] | None = None

    def read(self, path: Path) -> Any:
        """The content of a file, checked against `needed`.

        Raises:
            FrugalsegError: of the class `error`; names the file, the key, and what is wrong.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self.error(f"{to_printable(path)} is missing", self.cure) from None
        except (OSError, UnicodeDecodeError) as error:
            raise self.damage_error(path, f"it cannot be read: {_format_reason(error)}") from error
        return self.parse_text(path, text)

    def parse_text(self, path: Path, text: str) -> Any:
        """The content of a text, for example of a line of metrics.jsonl; raises as `read`."""
        if not text.strip("\x00 \n\r\t"):
            raise self.damage_error(path, "it is empty")
        try:
            content = self.parse(text)
        except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
            raise self.damage_error(path, f"it is cut off or invalid: {_format_reason(error)}") from error
        if wrong := find_fault(content, self.needed):
            raise self.damage_error(path, wrong)
        try:
            if self.valid is not None:
                self.valid(content)
        except FrugalsegError as error:
            raise self.damage_error(path, error.problem) from error
        except (KeyError, TypeError, ValueError) as error:
            raise self.damage_error(path, _format_reason(error)) from error
        return content

    def damage_error(self, path: Path, why: str) -> FrugalsegError:
        """The error for a damaged file."""
        return self.error(f"{to_printable(path)} is damaged: {why}", self.cure)


def find_fault(content: Any, needed: Needed, key: str = "") -> str | None:
    """The first fault of a value, in words; None where it is as needed.

    Args:
        content: value from JSON or YAML.
        needed: see `Needed`.
        key: path of the value in the file.
    """
    if isinstance(needed, dict):
        return _find_type_fault(content, dict, key) or _find_mapping_fault(content, needed, key)
    if isinstance(needed, list):
        found = (
            find_fault(value, needed[0], f"{key}[{i}]")
            for i, value in enumerate(content if _is_of_type(content, list) else ())
        )
        return _find_type_fault(content, list, key) or next(filter(None, found), None)
    return _find_type_fault(content, needed, key)


def _find_mapping_fault(content: Mapping[str, Any], needed: Mapping[Any, Needed], key: str) -> str | None:
    for name, what in needed.items():
        if name is str:
            found = (find_fault(value, what, _join_keys(key, str(k))) for k, value in content.items())
            if wrong := next(filter(None, found), None):
                return wrong
        elif (plain := name.removesuffix("?")) not in content:
            if plain == name:
                return f"it has no {_join_keys(key, name)!r}"
        elif wrong := find_fault(content[plain], what, _join_keys(key, plain)):
            return wrong
    return None


def _join_keys(key: str, name: str) -> str:
    return f"{key}.{name}".lstrip(".")


def _find_type_fault(value: Any, kind: type | UnionType, key: str) -> str | None:
    if _is_of_type(value, kind):
        return None
    text = repr(value)
    shown = text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"
    return f"{f'{key!r}' if key else 'its content'} is {shown}, expected {_type_words(kind)}"


def _is_of_type(value: Any, kind: type | UnionType) -> bool:
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    if isinstance(value, bool):
        return bool in kinds or object in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


TYPE_WORDS: dict[type, str] = {
    dict: "names with values",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


def _type_words(kind: type | UnionType) -> str:
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    return " or ".join(TYPE_WORDS[one] for one in kinds)


def _format_reason(error: Exception) -> str:
    """The first line of an exception's text, or its class where there is none."""
    text = str(error).strip().split("\n")[0]
    return f"no {text}" if isinstance(error, KeyError) else text or type(error).__name__
