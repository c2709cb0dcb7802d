from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from frugalseg.errors import FrugalsegError, RunError, StoreError
from frugalseg.records.record import Converters, Record


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Example(Record):
    FORMAT: ClassVar[int] = 2
    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "make it again"
    OLDER: ClassVar[Converters] = {0: lambda old: {**old, "kind": "a"}, 1: lambda old: {**old, "parts": old["pieces"]}}

    kind: Literal["a", "b"]
    parts: tuple[Part, ...]
    share: float = 0.5
    note: str | None = None

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError("share is above 1")


WHOLE = Example(kind="b", parts=(Part("x", (1, 2)), Part("y")), share=1)


def test_a_written_record_is_read_again(tmp_path):
    WHOLE.write(tmp_path / "e.json")
    assert Example.read(tmp_path / "e.json") == WHOLE
    assert json.loads((tmp_path / "e.json").read_text())["format"] == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "c"}, "'kind': invalid enum value 'c'"),
        ({"parts": 3}, "'parts': expected a list, got a whole number"),
        ({"parts": [{"name": 5}]}, "'parts[0].name': expected a text, got a whole number"),
        ({"parts": [{}]}, "it has no 'parts[0].name'"),
        ({"share": True}, "'share': expected a number, got true or false"),
        ({"share": 2.0}, "share is above 1"),
        ({"format": 3}, "has format 3, this version of frugalseg reads up to 2"),
        ({"format": "new"}, "format 'new', expected 2"),
    ],
)
def test_faults_are_named_with_file_key_and_cure(tmp_path, change, told):
    path = tmp_path / "e.json"
    path.write_text(json.dumps({**WHOLE.to_json(), **change}))
    with pytest.raises(StoreError) as error:
        Example.read(path)
    assert told in error.value.problem
    assert str(path) in error.value.problem
    assert error.value.cure in ("make it again", "update frugalseg")


@pytest.mark.parametrize("text", ["", "\x00\x00", '{"kind": "a", "pa', "[1]", "null", "nonsense", "[" * 100_000])
def test_a_file_that_is_not_an_object_is_damaged(tmp_path, text):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(StoreError, match="e.json is damaged"):
        Example.read(tmp_path / "e.json")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(StoreError, match="e.json is missing"):
        Example.read(tmp_path / "e.json")


def test_older_formats_are_converted_step_by_step(tmp_path):
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"pieces": [{"name": "x"}]}))
    assert Example.read(path) == Example(kind="a", parts=(Part("x"),))
    path.write_text(json.dumps({"other": 1}))
    with pytest.raises(StoreError, match="is damaged: KeyError: 'pieces'"):
        Example.read(path)


def test_an_unknown_key_is_ignored(tmp_path):
    path = tmp_path / "e.json"
    path.write_text(json.dumps({**WHOLE.to_json(), "more": 1}))
    assert Example.read(path) == WHOLE


def test_the_default_error_is_of_a_run():
    assert Record.ERROR is RunError


def test_annotations_can_be_evaluated_by_python_3_10():
    """It refuses `ClassVar` without a type, and then no file of such a record can be read."""
    source = Path(__file__).resolve().parents[2] / "src"
    plain = re.compile(r": ClassVar(?!\[)\b")
    assert [path.name for path in source.rglob("*.py") if plain.search(path.read_text(encoding="utf-8"))] == []
