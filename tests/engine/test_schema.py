"""Errors of damaged files name the file, the key, and what to do."""

from __future__ import annotations

import re

import pytest
import yaml

from frugalseg.engine.schema import Schema, find_fault
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError

FORM = Schema(
    {
        "name": str,
        "size": int,
        "share": float,
        "note": str | None,
        "list": [int],
        "any": {str: {"x": int}},
        "more?": str,
    },
    RunError,
    "make it again",
)
WHOLE = {"name": "a", "size": 1, "share": 1, "note": None, "list": [1, 2], "any": {"k": {"x": 3}}}


def test_a_complete_file_is_accepted_with_additional_keys():
    assert find_fault(WHOLE | {"unknown": object()}, FORM.needed) is None
    assert find_fault(WHOLE | {"more": "x"}, FORM.needed) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "'name' is 3, expected a text"),
        ({"size": 1.5}, "'size' is 1.5, expected a whole number"),
        ({"size": True}, "'size' is True"),
        ({"share": "1"}, "'share' is '1', expected a number"),
        ({"note": 1}, "'note' is 1, expected a text or nothing"),
        ({"list": {"a": 1}}, "expected a list"),
        ({"list": [1, "x"]}, r"'list\[1\]' is 'x'"),
        ({"any": {"k": {}}}, "it has no 'any.k.x'"),
        ({"any": {"k": {"x": None}}}, "'any.k.x' is None"),
        ({"more": 1}, "'more' is 1"),
    ],
)
def test_the_first_fault_is_named(change, said):
    assert re.search(said, find_fault(WHOLE | change, FORM.needed))
    without = {key: value for key, value in WHOLE.items() if key != "list"}
    assert find_fault(without, FORM.needed) == "it has no 'list'"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\0" * 100, "is empty"),
        (b'{"name": "a"', "is cut off or invalid"),
        (b"\xff\xfe\x80", "cannot be read"),
        (b"[1]", "expected names with values"),
        (b"[" * 100_000, "is cut off or invalid"),
        (b'{"name": "a"}', "it has no 'size'"),
    ],
)
def test_a_damaged_file_is_named_with_the_cure(tmp_path, content, said):
    path = tmp_path / "own.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"own\.json is damaged: .*{said}") as caught:
        FORM.read(path)
    assert caught.value.cure == "make it again"
    with pytest.raises(RunError, match="gone.json is missing"):
        FORM.read(tmp_path / "gone.json")


def test_yaml_with_nested_aliases_is_refused_before_expansion():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(yaml.YAMLError, match="too many values"):
        load_yaml("\n".join(lines))
    with pytest.raises(yaml.YAMLError, match="too many values"):
        load_yaml("a: &a [*a]")
    assert load_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}
    assert load_yaml("") is None
