"""What all records share: a JSON file as a frozen dataclass, whose annotations say what the file must hold."""

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
"""A JSON object, before it is known to be right; only this file and the converters of older formats see one."""


def finite_or_none(value: float) -> float | None:
    """None for a NaN or an infinity, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def to_plain(part: object) -> Content:
    """A dataclass as names with plain values, ready for JSON, in the order of its fields."""
    content: Content = msgspec.to_builtins(part)
    return content


@dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON file of this program.

    A subclass is a frozen dataclass of its fields, nested dataclasses included. Fields with defaults may be missing in
    the file, names that the class does not know are left alone, everything else is checked. A field that is
    `msgspec.UNSET` is not written. Where a `__post_init__` raises `ValueError` or a `FrugalsegError`, values of the
    right types make no sense together.

    Attributes:
        FORMAT: version of the file, which stands in it under "format".
        ERROR: the class of the error that tells of a damaged file.
        CURE: what to do then.
        OLDER: format → what turns the content of such a file into that of the next format. A file without "format" is
            of format 0.
    """

    FORMAT: ClassVar[int] = 1
    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "put back the whole file"
    OLDER: ClassVar[Mapping[int, Callable[[Content], Content]]] = {}

    @classmethod
    def read(cls: type[R], path: Path) -> R:
        """The record in a file.

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
            reason = "it is empty" if not text.strip("\x00 \r\n\t") else f"it breaks off or is garbled ({error})"
            raise cls._damage_error(path, reason) from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls: type[R], content: Any, path: Path) -> R:
        """The record in the content of the JSON file at `path`; raises as `read`."""
        if isinstance(content, dict):
            cls._check_version(content, path)
        try:
            if isinstance(content, dict):
                content = cls._upgrade(content)
            return msgspec.convert(content, cls, strict=True)
        except FrugalsegError as error:
            if type(error) is cls.ERROR:  # of the record itself, which knows what to do
                raise cls.ERROR(f"{to_printable(path)}: {error.problem}", error.cure) from None
            # Of a part that is no record, as an option's value would be refused.
            raise cls._damage_error(path, error.problem) from error
        except msgspec.ValidationError as error:
            raise cls._damage_error(path, _describe_fault(str(error))) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # of a converter of older formats
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
        """As plain values, the format first."""
        return {"format": self.FORMAT, **to_plain(self)}

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; raises `DiskError`."""
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
    """What msgspec found wrong, with the key first."""
    if found := _MISSING.fullmatch(message):
        return f"it has no {'.'.join(filter(None, (found[2], found[1])))!r}"
    told = _TYPES.sub(lambda types: " or ".join(_JSON_TYPES.get(one, one) for one in types[1].split(" | ")), message)
    if found := _WRONG.fullmatch(told):
        return f"{found[2]!r}: {found[1][0].lower()}{found[1][1:]}" if found[2] else found[1]
    return told
