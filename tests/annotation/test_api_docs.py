"""The reference of the HTTP API lists every request of the program, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from frugalseg.annotation.app import make_api
from frugalseg.annotation.problems import STATUS
from tests.annotation.session import open_session, serve
from tests.scans import write_cohort

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "annotation-api.md"


@pytest.fixture
def schema(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session:
        yield make_api(session).openapi()


def test_every_request_is_documented_and_every_documented_request_exists(schema):
    table = PAGE.read_text(encoding="utf-8").partition("<!-- requests")[2]
    listed = re.findall(r"^\| `(\w+ /\S+)` \|", table, re.MULTILINE)
    there = {f"{method.upper()} {path}" for path, methods in schema["paths"].items() for method in methods}
    assert set(listed) == there
    assert len(listed) == len(set(listed))


def test_every_status_of_an_error_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"{status} " in text for status in {*STATUS.values(), 413, 421, 428})


def test_messages_are_described(schema):
    for name, shape in schema["components"]["schemas"].items():
        if name not in ("HTTPValidationError", "ValidationError"):
            assert shape.get("description"), name


def test_the_example_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    with serve("--demo", "--phantoms", 1, "--out", tmp_path / "out") as (address, _):
        program = code[1].replace("http://127.0.0.1:8765", address.rstrip("/"))
        exec(compile(program, str(PAGE), "exec"), {})
    assert '"outlined": [\n        20' in (tmp_path / "out" / "annotations.json").read_text()
