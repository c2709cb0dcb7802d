"""`doctor` states what is there, finds what is broken, and names no person."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from frugalseg._version import __version__
from frugalseg.cli import main
from frugalseg.diagnosis import folders, machine, packages
from frugalseg.diagnosis.doctor import SECTIONS
from frugalseg.diagnosis.section import Problem, Section, hide_names
from frugalseg.records.origin import WeightsOrigin
from tests.project import PROJECT


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of somebody, with the weights in it."""
    home = tmp_path / "home" / "jane.doe"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FRUGALSEG_HOME", str(home / "cache"))
    monkeypatch.setattr(getpass, "getuser", lambda: "jane.doe")
    return home


@pytest.fixture
def quick(monkeypatch):
    """Without the imports of all packages."""
    monkeypatch.setattr(packages, "_check_import", lambda name: [])


def problems(section: Section) -> list[tuple[str, bool]]:
    return [(one.problem, one.breaks) for one in section.problems]


def test_json_has_every_section_and_the_text_the_same_facts(quick, capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [*SECTIONS, "problems"]
    assert found["program"]["frugalseg"] == __version__
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["devices"]["--device auto"] in ("cpu", "cuda")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name, facts in found.items():
        if name not in ("problems", "memory", "folders"):
            assert f"{name}:\n" in text
            for key in facts:
                assert f"  {key} " in text


def test_it_says_nothing_about_the_person(quick, capsys, home, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "/scratch/jane.doe/ray")
    main(["doctor"])
    text = capsys.readouterr().out
    assert "~/cache/weights" in text
    assert "/scratch/USER/ray" in text
    assert "jane.doe" not in text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/other/data", "/home/other/data"),
        ("/scratch/jane.doe", "/scratch/USER"),
        ("/scratch/jane.does/x", "/scratch/jane.does/x"),
    ],
)
def test_names_in_paths_are_hidden_and_nothing_else(path, shown):
    assert hide_names(path) == shown


def test_something_broken_gives_another_exit_status_and_says_what_to_do(quick, capsys, monkeypatch):
    broken = Section(
        {}, [Problem("the disk is on fire", "leave the house"), Problem("it is slow", "wait", breaks=False)]
    )
    monkeypatch.setitem(SECTIONS, "memory", lambda: broken)
    assert main(["doctor"]) == 1
    told = capsys.readouterr()
    assert "problem: the disk is on fire\n  → leave the house\nnote: it is slow" in told.out
    assert "error: the disk is on fire\n  → leave the house" in told.err
    monkeypatch.setitem(SECTIONS, "memory", lambda: Section({}, broken.problems[1:]))
    assert main(["doctor", "--json"]) == 0, "a note is not an error"
    assert json.loads(capsys.readouterr().out)["problems"] == [
        {"problem": "it is slow", "cure": "wait", "breaks": False}
    ]


def requires(monkeypatch, *lines: str) -> None:
    monkeypatch.setattr(packages.metadata, "requires", lambda name: list(lines))


def test_packages_that_are_missing_old_or_do_not_load_are_named(monkeypatch):
    requires(monkeypatch, "numpy>=99", "no-such-package>=1", "torch>=2", 'ray>=1; extra == "cluster"')
    monkeypatch.setitem(packages.MODULES, "torch", "frugalseg_has_no_such_module")
    section = packages.describe_packages()
    assert section.facts == {
        "numpy": metadata.version("numpy"),
        "no-such-package": None,
        "torch": metadata.version("torch"),
    }
    old, missing, broken = section.problems
    assert old.problem.endswith("but frugalseg needs >=99")
    assert old.cure == "run pip install 'numpy>=99'"
    assert missing.problem == "the package no-such-package is not installed"
    assert broken.problem.startswith("the package torch cannot be imported (No module named")
    assert all(one.breaks for one in section.problems)


def test_an_extra_that_is_missing_is_no_problem_and_says_what_it_is_for(monkeypatch):
    requires(monkeypatch, 'ray>=1; extra == "cluster"', 'no-such-package; extra == "onnx"', "numpy")
    section = packages.describe_extras()
    assert section.facts["cluster"] == f"ray {metadata.version('ray')}"
    assert section.facts["onnx"] == "not installed; for export --format onnx: pip install 'frugalseg[onnx]'"
    assert section.problems == []


def test_the_extras_are_those_of_the_package():
    assert set(packages.EXTRAS) == PROJECT["optional-dependencies"].keys() - {"dev", "docs"}


def test_every_package_can_be_imported_under_its_module_name():
    for line in PROJECT["dependencies"]:
        name = packages.Requirement(line).name
        assert packages._check_import(name) == []


def weights(home, name="mine", declared=4):
    folder = home / "cache" / "weights" / name
    folder.mkdir(parents=True)
    (folder / "mine.pth").write_bytes(b"1234")
    WeightsOrigin("mine.pth", declared, "0" * 64, "somewhere", "MIT", False).write(folder / "origin.json")
    return folder


def test_weights_are_listed_and_damaged_ones_found(home):
    assert folders.describe_weights() == Section({"installed": "none"})
    weights(home)
    assert folders.describe_weights() == Section({"mine": "0 MB, SHA-256 not known"})
    weights(home, "cut", declared=5)
    ((said, breaks),) = problems(folders.describe_weights())
    assert (said, breaks) == ("the weights cut have 4 bytes instead of 5", True)
    (home / "cache" / "weights" / "cut" / "origin.json").write_text("{")
    ((said, breaks),) = problems(folders.describe_weights())
    assert "~/cache/weights/cut/origin.json" in said
    assert breaks


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_found(home, monkeypatch):
    home.chmod(0o500)
    found = dict(problems(folders.describe_folders()))
    home.chmod(0o700)
    assert found == {"~/cache/weights cannot be written": False}


def test_a_temporary_folder_without_permission_or_space_breaks_commands(home, monkeypatch):
    monkeypatch.setattr(folders.os, "access", lambda path, mode: "tmp-of-system" not in str(path))
    (home / "tmp-of-system").mkdir()
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(home / "tmp-of-system"))
    section = folders.describe_folders()
    assert problems(section) == [("~/tmp-of-system cannot be written", True)]
    assert section.facts["temporary files: writable"] is False


def test_an_nvidia_gpu_that_pytorch_cannot_use_is_noted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ((said, breaks),) = problems(machine.describe_devices())
    assert "PyTorch cannot use it: it is a CPU build" in said
    assert not breaks
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert problems(machine.describe_devices()) == [], "hidden on purpose"


def test_a_gpu_that_does_not_compute_is_broken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(torch, "ones", fail)
    (one,) = machine._check_cuda()
    assert one.problem == "cuda:0 does not compute (CUDA error: no kernel image is available)"
    assert one.breaks


def test_little_memory_is_noted(monkeypatch):
    monkeypatch.setattr(machine, "free_host_memory", lambda: 1 << 30)
    assert problems(machine.describe_memory()) == [("only 1.0 GiB of memory are free", False)]


def test_it_runs_where_pytorch_cannot_be_imported(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "frugalseg", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: the package torch cannot be imported (libtorch.so" in done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == {"devices": "unknown, since PyTorch cannot be imported"}
