"""The tables of docs/reference/files.md list the keys of every JSON file that a record describes, and no others."""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from frugalseg import records
from frugalseg.records.record import Record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "files.md"
TABLE = re.compile(r"^<!-- keys: (.+?) -->\n\n((?:\|.*\n)+)", re.MULTILINE)


def record_classes():
    """Every class whose objects are written: private classes and those that others extend only read or share keys."""
    for module in pkgutil.iter_modules(records.__path__):
        loaded = import_module(f"{records.__name__}.{module.name}")
        own = [kind for kind in vars(loaded).values() if getattr(kind, "__module__", "") == loaded.__name__]
        for kind in own:
            is_record = isinstance(kind, type) and issubclass(kind, Record)
            if is_record and not kind.__subclasses__() and not kind.__name__.startswith("_"):
                yield kind


def keys(kind, prefix=""):
    """Path of each key → whether there are keys below it; `*` stands for the items of a list or an object."""
    found = {}
    hints = get_type_hints(kind)
    for field in fields(kind):
        path = prefix + field.name
        inner = list(parts(hints[field.name], path))
        found[path] = bool(inner)
        for part, below in inner:
            found |= keys(part, f"{below}.")
    return found


def parts(hint, path):
    """The dataclasses in a type, each with its path."""
    if is_dataclass(hint):
        yield hint, path
    container = getattr(hint, "__origin__", None) is not None
    for inner in get_args(hint):
        yield from parts(inner, f"{path}.*" if container else path)


def documented(text):
    """Class name → keys in the tables that name it; `Class path` before a table: its keys are below that path."""
    found = {}
    for places, table in TABLE.findall(text):
        listed = {key for row in table.splitlines()[2:] for key in re.findall(r"`([^`]+)`", row.split("|")[1])}
        for place in places.split(", "):
            name, _, path = place.partition(" ")
            found.setdefault(name, set()).update(f"{path}.{key}".lstrip(".") for key in listed)
    return found


def differences(text, kind):
    """Keys of a record that are in no table, and keys in its tables that the record does not have."""
    all_keys, listed = keys(kind), documented(text).get(kind.__name__, set())
    return {key for key, has_parts in all_keys.items() if not has_parts} - listed, listed - all_keys.keys()


@pytest.mark.parametrize("kind", list(record_classes()), ids=lambda kind: kind.__name__)
def test_every_key_is_documented_and_every_documented_key_exists(kind):
    assert differences(PAGE.read_text(encoding="utf-8"), kind) == (set(), set())


def test_tables_name_classes_that_exist():
    assert documented(PAGE.read_text(encoding="utf-8")).keys() == {kind.__name__ for kind in record_classes()}


@dataclass(frozen=True)
class Part:
    inner: int


@dataclass(frozen=True)
class Example(Record):
    number: int
    part: Part | None
    several: tuple[Part, ...]
    named: dict[str, Part]


def test_a_missing_and_an_invented_key_are_found():
    rows = "| key | content |\n|---|---|\n| `number` | a |\n| `part.inner`, `several.*.inner` | b |\n"
    page = f"<!-- keys: Example -->\n\n{rows}| `named.*.inner` | c |\n"
    assert differences(page, Example) == (set(), set())
    below = "<!-- keys: Example named.* -->\n\n| key | content |\n|---|---|\n| `inner` | c |\n"
    assert differences(f"<!-- keys: Example -->\n\n{rows}\n{below}", Example) == (set(), set())
    assert differences(f"<!-- keys: Example -->\n\n{rows}", Example) == ({"named.*.inner"}, set())
    assert differences(page.replace("`number`", "`numbers`"), Example) == ({"number"}, {"numbers"})
