"""Base of all records: a JSON file as a frozen dataclass, checked against its annotations when read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from frugalseg.engine.files import write_json
from frugalseg.engine.schema import TYPE_WORDS
from frugalseg.errors import FrugalsegError, RunError, to_printable

R = TypeVar("R", bound="Record")

Content = dict[str, Any]
"""A JSON object that is not yet checked; used only here and in the converters of older formats."""
Converters = Mapping[int, Callable[[Content], Content]]
"""Format → function that converts the content of a file to the next format."""


def rename_keys(content: Content, names: Mapping[str, str]) -> Content:
    """A JSON object with other names for some of its keys, for converters; keys that are missing stay missing."""
    return {names.get(key, key): value for key, value in content.items()}


def finite_or_none(value: float) -> float | None:
    """None for NaN and infinity, which JSON cannot represent."""
    return value if math.isfinite(value) else None


def to_plain(part: object) -> Content:
    """A dataclass as a dict of JSON values, in the order of its fields."""
    content: Content = msgspec.to_builtins(part)
    return content


@dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON file of this program.

    A subclass is a frozen dataclass of its keys, nested dataclasses included. Keys with defaults may be missing in the
    file, unknown keys are ignored, everything else is checked. A field that is `msgspec.UNSET` is not written. A
    `__post_init__` raises `ValueError` or a `FrugalsegError` for values that are invalid in combination.

    Attributes:
        FORMAT: version of the file, written under "format".
        ERROR: class of the error for a damaged file.
        CURE: what the user can do about it.
        OLDER: format → converter to the next format. A file without "format" has format 0.
    """

    FORMAT: ClassVar[int] = 1
    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "restore the file"
    OLDER: ClassVar[Converters] = {}

    @classmethod
    def read(cls: type[R], path: Path) -> R:
        """Read and check a file.

        Raises:
            FrugalsegError: of the class `ERROR`: the file is missing, cut off, of an unknown format, or a value is
                missing or wrong; names the file, the key and what was expected.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise cls.ERROR(f"{to_printable(path)} is missing", cls.CURE) from None
        except (OSError, UnicodeDecodeError) as error:
            raise cls._damage_error(path, f"it cannot be read ({error})") from error
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = "it is empty" if not text.strip("\x00 \r\n\t") else f"it is cut off or invalid ({error})"
            raise cls._damage_error(path, reason) from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls: type[R], content: Any, path: Path) -> R:
        """Check the content of the JSON file at `path`; raises as `read`."""
        if isinstance(content, dict):
            cls._check_version(content, path)
        try:
            if isinstance(content, dict):
                content = cls._upgrade(content)
            return msgspec.convert(content, cls, strict=True)
        except FrugalsegError as error:
            if type(error) is cls.ERROR:  # raised by the record itself, with its own cure
                raise cls.ERROR(f"{to_printable(path)}: {error.problem}", error.cure) from None
            # Raised by a nested class that is also used for options.
            raise cls._damage_error(path, error.problem) from error
        except msgspec.ValidationError as error:
            raise cls._damage_error(path, _describe_fault(str(error))) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # raised by a converter
            raise cls._damage_error(path, f"{type(error).__name__}: {error}") from error

    @classmethod
    def _check_version(cls, content: Content, path: Path) -> None:
        version = content.get("format", 0)
        if isinstance(version, int) and version > cls.FORMAT:
            raise cls.ERROR(
                f"{to_printable(path)} has format {version}, this version of frugalseg reads up to {cls.FORMAT}",
                "update frugalseg",
            )

    @classmethod
    def _upgrade(cls, content: Content) -> Content:
        version = content.get("format", 0)
        while version != cls.FORMAT:
            if version not in cls.OLDER:
                raise ValueError(f"format {version!r}, expected {cls.FORMAT}")
            content = {**cls.OLDER[version](content), "format": version + 1}
            version += 1
        return content

    def to_json(self) -> Content:
        """As JSON values, the format first."""
        return {"format": self.FORMAT, **to_plain(self)}

    def write(self, path: Path) -> None:
        """Write the file atomically; raises `DiskError`."""
        write_json(path, self.to_json())

    @classmethod
    def _damage_error(cls, path: Path, why: str) -> FrugalsegError:
        return cls.ERROR(f"{to_printable(path)} is damaged: {why}", cls.CURE)


_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?")
_WRONG = re.compile(r"(.*) - at `\$\.?(.*)`")
_TYPES = re.compile(r"`(\w+(?: \| \w+)*)`")
_JSON_TYPES = {
    "object": TYPE_WORDS[dict],
    "array": TYPE_WORDS[list],
    "null": TYPE_WORDS[type(None)],
    **{kind.__name__: TYPE_WORDS[kind] for kind in (str, int, float, bool)},
}


def _describe_fault(message: str) -> str:
    """The message of msgspec in the words of this program, with the key first."""
    if found := _MISSING.fullmatch(message):
        return f"it has no {'.'.join(filter(None, (found[2], found[1])))!r}"
    message = _TYPES.sub(lambda types: " or ".join(_JSON_TYPES.get(one, one) for one in types[1].split(" | ")), message)
    if found := _WRONG.fullmatch(message):
        return f"{found[2]!r}: {found[1][0].lower()}{found[1][1:]}" if found[2] else found[1]
    return message
