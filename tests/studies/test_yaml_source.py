"""YAML entries that know their line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from frugalseg.errors import OptionError
from frugalseg.studies.plan.yaml_source import flags_to_keys, read_yaml


def entry(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return read_yaml(path)


def test_lines_are_those_of_the_keys_and_of_list_items(tmp_path):
    top = entry(tmp_path, "a:\n  b: 1\n\n  c:\n    - x\n    - y\n").mapping()["a"].mapping()
    assert (top["b"].line, top["c"].line) == (2, 4)
    assert [item.line for item in top["c"].read_list()] == [5, 6]
    assert top["b"].key == "a.b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: a: is given here and on line 1"),
        ("a: [1, 2\nb: 3\n", r"line \d: "),
        ("", "is empty"),
        ("[1, 2]", "line 1: expected names with values"),
        ("a: !!python/object:os.system x", "line 1: a: cannot be read"),
        ("a: &x\n  b: *x\n", "too many values"),
    ],
)
def test_what_is_no_plain_mapping_is_refused(tmp_path, text, said):
    def walk(e):
        for inner in e.mapping().values():
            if inner.key.endswith("b") or "b" not in text:
                inner.to_python() if "*" not in text else walk(inner)
            else:
                walk(inner)

    with pytest.raises(OptionError, match=said):
        walk(entry(tmp_path, text))


def test_environment_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGAL_DATA", "/scans")
    top = entry(tmp_path, "a: ${FRUGAL_DATA}/x\nb:\n  - ${FRUGAL_NONE}\n").mapping()
    assert top["a"].as_type(Path) == Path("/scans/x")
    with pytest.raises(OptionError, match="line 2: b: the environment variable FRUGAL_NONE is not set"):
        top["b"].as_type(list[str])


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-4", float, 1e-4),  # YAML takes it for a text
        ("", int | None, None),
        ("~", Literal["a"] | None, None),
        ("x", Path | None, "x"),
        ("../x", Path, "../x"),
        ("/y", Path, "/y"),
        ("2024", Path, "2024"),
        ("[-40, 160]", tuple[float, float], (-40.0, 160.0)),
        ("liver=6", list[str], ["liver=6"]),
        ("[32, on]", list[str], ["32", "on"]),
        ("a", Literal["a", "b"], "a"),
        ("32", Literal["auto", "32"], "32"),
        ("'32'", Literal["auto", "32"], "32"),
        ("yes", Literal["model", "yes", "no"], "yes"),
        ("[no, yes]", list[Literal["yes", "no"]], ["no", "yes"]),
        ("5", str, "5"),
        ("1.10", str, "1.10"),
        ("2024-01-01", str, "2024-01-01"),
        ("off", str, "off"),
    ],
)
def test_conversion(tmp_path, text, kind, wanted):
    value = entry(tmp_path, f"a: {text}").mapping()["a"].as_type(kind)
    assert value == ((tmp_path / wanted).resolve() if isinstance(value, Path) else wanted)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("yes", int, "a: yes is not a whole number"),
        ("1.5", int, "a: 1.5 is not a whole number"),
        ("x", float, "a: 'x' is not a number"),
        ("true", float, "a: true is not a number"),
        ("c", Literal["a", "b"], "a: 'c' is not one of a, b"),
        ("64", Literal["auto", "32"], "a: 64 is not one of auto, 32"),
        ("off", Literal["yes", "no"], "a: off is not one of yes, no"),
        ("1", bool, "a: 1 is not true or false"),
        ("'yes'", bool, "a: 'yes' is not true or false"),
        ("[1]", tuple[float, float], r"a: \[1\] is not a list of 2 values"),
        ("", int, "a: an empty value is not a whole number"),
        ("", str, "a: an empty value is not a text"),
        ("[x]", str, r"a: \['x'\] is not a text"),
        ("''", Path, "a: '' is not a path"),
    ],
)
def test_wrong_types(tmp_path, text, kind, said):
    with pytest.raises(OptionError, match=said):
        entry(tmp_path, f"a: {text}").mapping()["a"].as_type(kind)


def test_options_as_a_plan_writes_them():
    said = "--batch-size 2 has no room (--slices-per-scan 4) in /data/a--b"
    assert flags_to_keys(said) == "batch_size 2 has no room (slices_per_scan 4) in /data/a--b"
