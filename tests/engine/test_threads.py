"""Number of threads, by option, environment and limits; how idle threads wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from frugalseg.cli import main
from frugalseg.engine import threads
from frugalseg.engine.parallel import map_cases
from frugalseg.engine.threads import cores_to_use, usable_cores, use_threads, wait_passively
from frugalseg.errors import OptionError
from frugalseg.options import EvaluateOptions, PredictOptions, PrepareOptions, PropagateOptions, SuperpixelOptions


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "100"}, {"GOMP_SPINCOUNT": "100"}),
        ({"KMP_BLOCKTIME": "200"}, {"KMP_BLOCKTIME": "200"}),
    ],
)
def test_threads_wait_passively_unless_the_user_says_otherwise(given, meant):
    environment = dict(given)
    wait_passively(environment)
    assert environment == meant


SAY = "import os; {before}; import torch; print(os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize(
    "before",
    [
        "from frugalseg.cli import main; main(['prepare', '--images', 'i', '--out', 'o'])",
        "import frugalseg; frugalseg.pretrain",
    ],
    ids=["command line", "Python"],
)
def test_the_waiting_policy_is_set_before_pytorch_is_loaded(before, tmp_path):
    """GNU's OpenMP prints the settings that it read when it was loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP", "KMP"))}
    done = subprocess.run(
        [sys.executable, "-c", SAY.format(before=before)],
        env=environment | {"OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith("PASSIVE")
    if "OMP_WAIT_POLICY" in done.stderr:  # not every OpenMP displays it
        assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


def test_affinity_bounds_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("member", "files", "cores"),
    [
        ("0::/job", {"job/cpu.max": "150000 100000"}, 1.5),
        ("0::/job/step", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4),
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, float("inf")),
        ("4:memory:/job", {"cpu.max": "50000 100000"}, float("inf")),
        ("0::/job", {"job/cpu.max": "nonsense"}, float("inf")),
        ("0::/elsewhere", {}, float("inf")),
    ],
)
def test_a_container_s_quota_is_read(tmp_path, member, files, cores):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    (tmp_path / "self").write_text(member + "\n")
    assert threads._read_cgroup_cores(tmp_path / "self", tmp_path / "cgroup") == cores


def test_a_share_of_a_core_counts_as_one(monkeypatch):
    monkeypatch.setattr(threads, "_read_cgroup_cores", lambda: 0.5)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("variable", "option", "meant"), [("3", None, 3), ("3", 2, 2), ("4,2", None, 4), ("", 2, 2), ("many", 5, 5)]
)
def test_the_option_has_priority_over_the_environment(monkeypatch, variable, option, meant):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads()
    with use_threads(option):
        assert (torch.get_num_threads(), cores_to_use()) == (meant, meant)
        with use_threads(None):  # a command within a command
            assert torch.get_num_threads() == meant
    assert torch.get_num_threads() == before


def test_with_neither_all_usable_cores_are_used(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    with use_threads(None):
        assert (torch.get_num_threads(), cores_to_use()) == (1, 1)


def test_scans_processed_in_parallel_share_the_threads(monkeypatch):
    jobs = {str(i): i for i in range(4)}
    with use_threads(6):
        for workers, each in ((2, 3), (None, 1), (0, 6), (1, 6)):
            told, _ = map_cases(lambda _: torch.get_num_threads(), jobs, "counting", workers)
            assert set(told.values()) == {each}
        assert torch.get_num_threads() == 6


@pytest.mark.parametrize("threads", [0, -2])
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (PrepareOptions, ("images", "out")),
        (SuperpixelOptions, ("data",)),
        (PredictOptions, ("model", "images", "out")),
        (PropagateOptions, ("images", "annotations", "out")),
        (EvaluateOptions, ("predictions", "references", "out")),
    ],
)
def test_no_threads_are_refused(kind, given, threads):
    more = {"target": ["a=1"]} if kind is EvaluateOptions else {}
    with pytest.raises(OptionError, match=f"--threads {threads}"):
        kind(**dict.fromkeys(given, "x"), **more, threads=threads)


def test_a_run_records_its_threads_and_the_same_number_gives_the_same_result(tmp_path, monkeypatch):
    from frugalseg.dataset.prepare import prepare
    from tests.scans import write_cohort

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    images, labels = write_cohort(tmp_path / "scans", 5)
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=tmp_path / "store"))
    for name in ("a", "b"):
        flags = ["--data", tmp_path / "store", "--out", tmp_path / name, "--steps", 3, "--device", "cpu"]
        assert main(["finetune", *map(str, flags), "--threads", "2"]) == 0
        assert json.loads((tmp_path / name / "environment.json").read_text())["threads"] == 2
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
