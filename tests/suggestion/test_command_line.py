"""`frugalseg suggest` as a process, as the annotation server runs it."""

from __future__ import annotations

import json

from frugalseg.cli import main
from tests.scans import write_cohort


def test_flags_reach_the_command_and_the_result_is_named(tmp_path, capsys):
    images, _ = write_cohort(tmp_path, 4)
    store, out = str(tmp_path / "store"), tmp_path / "suggestions"
    assert main(["prepare", "--images", str(images), "--size", "32", "--fractions", "0", "0", "--out", store]) == 0
    capsys.readouterr()
    assert main(["suggest", "--data", store, "--budget", "3", "--out", str(out), "--threads", "1"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "rule spread: " in told
    assert "nearest slice of the scan that does" in told
    found = json.loads((out / "suggestions.json").read_text())
    assert (found["format"], found["purpose"], found["targets"]) == (1, "model", {})
    assert [set(one) >= {"case", "slice", "slices", "reason"} for one in found["suggestions"]] == [True] * 3

    mask = ["suggest", "--data", store, "--for", "mask", "--scan", "scan_02", "--budget", "1", "--out", str(out)]
    assert main(mask) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*mask, "--overwrite"]) == 0
    assert json.loads((out / "suggestions.json").read_text())["suggestions"][0]["case"] == "scan_02"
    assert main(["suggest", "--data", store, "--for", "mask", "--out", str(out)]) == 2
    assert "--for mask needs --scan" in capsys.readouterr().err
