"""The benchmarks run, and so follow every change of a name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg import __file__ as package

PROGRAM = Path(__file__).resolve().parents[1] / "benchmarks" / "bench.py"


def bench(*arguments: object) -> str:
    done = subprocess.run([sys.executable, PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_every_kind_of_case_runs_at_its_smallest_size():
    lines = [line for line in bench("--smoke").splitlines() if "Cost(cpu=" in line or "not installed" in line]
    assert len(lines) > 30
    for name in ("gather", "published way", "predict, 1 class", "study", "MONAI"):
        assert any(name in line for line in lines), name


def test_ways_take_turns_and_are_compared_with_ours_in_this_and_another_checkout(tmp_path):
    source = Path(package).parents[1]
    new, old = tmp_path / "speed.json", tmp_path / "earlier.json"
    bench("--only", "pair selection", "--rounds", 2, "--against", source, "--out", new)
    report = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    [case] = report["cases"]
    ways = {way["way"]: way for way in case["ways"]}
    assert list(ways) == ["frugalseg", "before", "naive loop"]
    assert all(len(way["seconds"]) == 2 for way in ways.values())
    assert ways["naive loop"]["ratio"] == min(ways["naive loop"]["seconds"]) / min(ways["frugalseg"]["seconds"])
    assert report["commit"] == report["before"]
    others = [case | {"name": name, "ways": []} for name in ("gather", "pair selection", "SLIC")]
    old.write_text(json.dumps(report | {"commit": "1234567", "cases": others}))
    bench("--only", "pair selection", "--rounds", 1, "--against", source, "--into", old)
    merged = json.loads(old.read_text(encoding="utf-8"))
    assert merged["commit"] == "1234567"
    assert [case["name"] for case in merged["cases"]] == ["gather", "pair selection", "SLIC"]
    assert [case.get("commit") for case in merged["cases"]] == [None, report["commit"], None]
    assert merged["cases"][1]["ways"][0]["seconds"]


def test_a_way_that_the_other_checkout_cannot_run_says_why_and_stops_no_other(tmp_path):
    other = tmp_path / "src" / "frugalseg"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('an older version')\n")
    bench("--only", "pair selection", "--rounds", 1, "--against", other.parent, "--out", tmp_path / "speed.json")
    [case] = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["cases"]
    ours, before, loop = case["ways"]
    assert ours["seconds"]
    assert loop["seconds"]
    assert before["reason"] == "failed: ImportError: an older version"
