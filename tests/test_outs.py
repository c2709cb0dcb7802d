"""Where a command is told to write is looked at before its work; and what else goes wrong around files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from frugalseg.cli import main
from frugalseg.commands.table import COMMANDS
from frugalseg.dataset import prepare as preparing
from frugalseg.dataset import prepare_scan as preparing_scan
from frugalseg.engine.files import atomic_write, check_out, remove_orphans, temporary_name
from frugalseg.engine.lock import lock_folder
from frugalseg.errors import DiskError, RunError
from tests.scans import write_cohort

ALSO_NEEDED = {"annotate": ["images"]}
"""Command → options of which it must have one or another."""


def flags(name: str, folder: Path) -> list[str]:
    """A command with something for every option it must have."""
    options = COMMANDS[name].options
    names = [field.name for field in fields(options) if field.default is MISSING and field.default_factory is MISSING]
    names += ALSO_NEEDED.get(name, [])
    given = {name: "liver=6" if name == "target" else str(folder) for name in names if name != "out"}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


WITH_OUT = [name for name, command in COMMANDS.items() if "out" in {field.name for field in fields(command.options)}]


def bad_outs(folder: Path) -> dict[str, Path]:
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    return {
        "below a file": folder / "file" / "out",
        "far below a file": folder / "file" / "a" / "b",
        "a dangling link": folder / "link",
        "below a dangling link": folder / "link" / "out",
        "a link to itself": folder / "loop",
        "300 characters": folder / ("x" * 300),
        "below 300 characters": folder / ("x" * 300) / "out",
    }


@pytest.mark.parametrize("name", WITH_OUT)
def test_every_command_looks_at_out_first(tmp_path, capsys, name):
    """The other paths do not exist either: a complaint about them would mean that --out came later."""
    gone = tmp_path / "gone"
    before = None
    for kind, out in bad_outs(tmp_path).items():
        before = before or sorted(tmp_path.iterdir())
        code = main([*name.split(), *flags(name, gone), "--out", str(out)])
        told = capsys.readouterr().err
        assert code == 1, (kind, told)
        assert "error: " in told
        assert "→" in told
        assert any(word in told for word in ("is a file", "broken link", "too long")), (kind, told)
        assert sorted(tmp_path.iterdir()) == before


def test_an_out_that_is_a_file_or_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="is a file"):
        check_out(Path(__file__))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DiskError, match="cannot be written"):
        check_out(tmp_path / "a" / "b")
    check_out(tmp_path)  # what is there may be finished, and is only read


def test_a_name_that_is_not_utf_8(tmp_path, capsys):
    images, labels = write_cohort(tmp_path, 2)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    options = ["--labels", str(labels), "--target", "liver=6", "--size", "32"]
    assert main(["prepare", "--images", str(images), "--out", odd, *options]) == 2
    assert "caf\\xe9 is not UTF-8" in capsys.readouterr().err
    (images / "scan_00.nii.gz").rename(images / os.fsdecode(b"p\xe9re.nii.gz"))
    assert main(["prepare", "--images", str(images), "--out", str(tmp_path / "out"), *options]) == 1
    assert "p\\xe9re.nii.gz is not valid UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_case_whose_name_is_as_long_as_the_disk_takes(tmp_path):
    images, labels = write_cohort(tmp_path, 1)
    name = "ä" * 118 + "x.nii.gz"
    for folder in (images, labels):
        (folder / "scan_00.nii.gz").rename(folder / name)
    options = ["--labels", str(labels), "--target", "liver=6", "--size", "32"]
    assert main(["prepare", "--images", str(images), "--out", str(tmp_path / "out"), *options]) == 0


def test_a_scan_that_vanishes_while_the_command_runs(tmp_path, capsys, monkeypatch):
    images, labels = write_cohort(tmp_path, 3)
    real = preparing_scan.prepare_scan

    def vanishing(job):
        if job.case == "scan_01":
            job.image.unlink()
        return real(job)

    monkeypatch.setattr(preparing_scan, "prepare_scan", vanishing)
    options = ["--labels", str(labels), "--target", "liver=6", "--size", "32", "--out", str(tmp_path / "out")]
    assert main(["prepare", "--images", str(images), *options]) == 1
    told = capsys.readouterr().err
    assert "1 of 3 scans" in told
    assert "scan_01.nii.gz cannot be read any more" in told


def test_an_input_that_vanishes_elsewhere(tmp_path, capsys, monkeypatch):
    images, _ = write_cohort(tmp_path, 1)
    monkeypatch.setattr(preparing, "find_dataset", lambda *_: ({"scan": images / "gone.nii.gz"}, {}))
    assert main(["prepare", "--images", str(images), "--out", str(tmp_path / "out")]) == 1
    assert "gone.nii.gz cannot be read any more" in capsys.readouterr().err


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


def test_a_yaml_bomb_is_refused_at_once(tmp_path, capsys):
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMB + "data: *j\n")
    for given in (["--config", str(path)], [f"--config={path}"]):
        assert main(["finetune", *given, "--out", str(tmp_path / "out")]) == 2
        told = capsys.readouterr().err
        assert "bomb.yaml, line 1: its aliases expand to too many values" in told
        assert len(told) < 1000
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "bomb.yaml, line 1: its aliases expand to too many values" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["frugalseg.cli", "jsonargparse", "numpy", "torch", "lightning_fabric"])
def test_ctrl_c_while_modules_are_imported(tmp_path, module):
    """The signal comes at the moment when the import of the module begins."""
    program = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with the signal ignored
class Find:
    def find_spec(self, name, *_):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Find())
sys.argv = ["frugalseg", "demo", "--out", {str(tmp_path / "out")!r}, "--phantoms", "3"]
import runpy
runpy.run_module("frugalseg", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (130, ["stopped"])
    assert "Traceback" not in done.stderr


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_runs_left_half_written_is_swept_and_nothing_else(tmp_path):
    dead, alive = dead_process(), os.getppid()
    orphans = [f".last.ckpt.{dead}.tmp", f".scan.nii.gz.{dead}.tmp.nii.gz", f"below/.model.json.{dead}.tmp"]
    others = [f".last.ckpt.{alive}.tmp", ".notes.tmp", f"mine.{dead}.tmp", f".mine.{dead}.tmpx", "below/scan.nii.gz"]
    (tmp_path / "below").mkdir()
    for name in (*orphans, *others):
        (tmp_path / name).touch()
    (tmp_path / f".weights.{dead}.tmp").mkdir()
    (tmp_path / f".weights.{dead}.tmp" / "half").touch()
    lock_folder(tmp_path).release()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {".lock"}
    assert left == set(others)
    assert not (tmp_path / f".weights.{dead}.tmp").exists()


def test_what_this_process_writes_is_not_swept_while_it_holds_the_lock(tmp_path):
    outer = lock_folder(tmp_path)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"half")
        lock_folder(tmp_path).release()
    assert (tmp_path / "file").read_bytes() == b"half"
    outer.release()


def test_sweep_knows_what_is_written():
    """The names that are written are those that are swept."""
    for name in ("a", ".hidden", "x" * 300, "ä" * 127):
        temporary = temporary_name(Path("folder") / name, ".nii.gz")
        assert len(os.fsencode(temporary.name)) <= 255
        assert temporary.name.endswith(f".{os.getpid()}.tmp.nii.gz")
    assert temporary_name(Path("x" * 60)) != temporary_name(Path("x" * 61))
    assert remove_orphans(Path("not there")) is None
