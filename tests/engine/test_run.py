from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
import yaml

from frugalseg.engine.checkpoint import load_checkpoint, save_checkpoint
from frugalseg.engine.device import find_device, make_fabric, resolve_precision
from frugalseg.engine.lock import LOCK
from frugalseg.engine.run import RunFolder
from frugalseg.errors import DeviceError, OptionError, RunError
from tests.engine.toy import Killed, ToyOptions, ToyTask, run_toy
from tests.processes import lock_held, try_lock


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", "32")


def test_new_run_on_a_used_folder_is_refused(tmp_path):
    run_toy(tmp_path / "run", ToyTask())
    with pytest.raises(RunError, match="in use by a run") as error:
        run_toy(tmp_path / "run", ToyTask())
    assert "--resume" in error.value.cure
    (tmp_path / "run" / "model.json").touch()
    with pytest.raises(RunError, match="holds a finished run") as error:
        run_toy(tmp_path / "run", ToyTask())
    assert "--resume" not in error.value.cure


def test_lightning_prints_nothing(capfd):
    make_fabric("cpu", "bf16")
    assert capfd.readouterr() == ("", "")


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path, fabric):
    (tmp_path / "thesis.docx").write_text("years of work")
    for resume in ("no", "auto"):
        with pytest.raises(RunError, match="in use"):
            RunFolder.claim("toy", ToyOptions(tmp_path, resume), fabric)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_resume_without_a_run_is_an_error(tmp_path, fabric):
    with pytest.raises(RunError, match="no checkpoint to continue from"):
        RunFolder.claim("toy", ToyOptions(tmp_path / "run", "yes"), fabric)
    assert not (tmp_path / "run").exists()


def test_resume_auto_starts_then_continues(tmp_path):
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=15), resume="auto")
    resumed = ToyTask()
    run_toy(tmp_path / "run", resumed, resume="auto")
    assert resumed.steps == 30


def test_resume_with_other_options_is_refused(tmp_path, fabric):
    run_toy(tmp_path / "run", ToyTask())
    with pytest.raises(RunError, match=r"lr: 0.05 then, 0.1 now"):
        RunFolder.claim("toy", ToyOptions(tmp_path / "run", "yes", lr=0.1), fabric)


def test_a_checkpoint_without_its_options_is_refused(tmp_path, fabric):
    run_toy(tmp_path / "run", ToyTask())
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(RunError, match="config.yaml"):
        RunFolder.claim("toy", ToyOptions(tmp_path / "run", "auto"), fabric)


@dataclass(frozen=True)
class _Drawn(ToyOptions):
    """Has an option that was called `draw` before."""

    label_draw: int = 0


@pytest.mark.parametrize("resume", ["yes", "auto"])
def test_a_run_with_the_former_name_of_an_option_is_refused_naming_the_new_one(tmp_path, fabric, resume):
    with RunFolder.claim("toy", _Drawn(tmp_path / "run", "no"), fabric) as run:
        run.last.touch()
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("label_draw:", "draw:"))
    with pytest.raises(RunError, match=r"config\.yaml has the option draw, which was renamed to label_draw\n"):
        RunFolder.claim("toy", _Drawn(tmp_path / "run", resume), fabric)


@dataclass(frozen=True)
class _Choosing(ToyOptions):
    """Has an option that earlier versions did not have."""

    choose: str = "random"


def test_a_run_without_an_option_that_was_added_later_goes_on_if_it_does_what_it_did(tmp_path, fabric):
    with RunFolder.claim("toy", ToyOptions(tmp_path / "run", "no"), fabric) as run:
        run.last.touch()
    with RunFolder.claim("toy", _Choosing(tmp_path / "run", "yes"), fabric):
        pass
    with pytest.raises(RunError, match=r"choose: None then, middle now"):
        RunFolder.claim("toy", _Choosing(tmp_path / "run", "yes", choose="middle"), fabric)


@pytest.mark.parametrize("resume", ["no", "auto"])
def test_a_file_as_output_folder_is_refused(tmp_path, fabric, resume):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "within"):
        with pytest.raises(RunError, match=r"--out .*file is a file"):
            RunFolder.claim("toy", ToyOptions(out, resume), fabric)


def test_a_second_process_is_kept_out_while_the_first_trains(tmp_path):
    class Looking(ToyTask):
        def validate(self):
            assert try_lock(tmp_path / "run") == "another process works"
            return super().validate()

    with pytest.raises(Killed):
        run_toy(tmp_path / "run", Looking(stop_at=15), resume="auto")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with lock_held(tmp_path / "run") as heard:
        assert heard == "free"  # though this process goes on
        with pytest.raises(RunError, match=r"another process works in .*run"):
            run_toy(tmp_path / "run", ToyTask(), resume="auto")
    assert {path: path.read_bytes() for path in before} == before
    run_toy(tmp_path / "run", ToyTask(), resume="auto")


def test_a_finished_run_can_be_read_while_it_is_locked(tmp_path, fabric):
    path = run_toy(tmp_path / "run", ToyTask(), resume="auto").path
    (path / "model.json").touch()
    written = (path / "environment.json").stat().st_mtime_ns
    with lock_held(path):
        assert RunFolder.claim("toy", ToyOptions(path, "auto"), fabric).finished
        (path / "checkpoints" / "last.ckpt").unlink()  # as studies do
        assert RunFolder.claim("toy", ToyOptions(path, "auto"), fabric).finished
    assert (path / "environment.json").stat().st_mtime_ns == written


def test_a_folder_with_only_a_lock_file_is_not_in_use(tmp_path):
    (tmp_path / LOCK).touch()
    run_toy(tmp_path, ToyTask())


def test_config_and_environment_are_kept(tmp_path, fabric):
    run = RunFolder.claim("toy", ToyOptions(tmp_path / "run"), fabric)
    assert yaml.safe_load((run.path / "config.yaml").read_text())["lr"] == 0.05
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["command"] == "toy"
    assert environment["packages"]["torch"] == torch.__version__


def test_a_line_cut_off_by_a_kill_is_removed(tmp_path, fabric):
    run = RunFolder.claim("toy", ToyOptions(tmp_path / "run"), fabric)
    for step in (10, 20, 30):
        run.log({"step": step})
    with run.metrics.open("a") as file:
        file.write('{"step": 40, "lo')
    run.drop_records_after(20)
    assert [r["step"] for r in run.read_records()] == [10, 20]


def test_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"step": 3, "model": {"w": torch.ones(1000)}})
    assert load_checkpoint(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match="last.ckpt is damaged"):
        load_checkpoint(path)


def test_checkpoint_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    torch.save({"step": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(RunError, match="damaged"):
        load_checkpoint(tmp_path / "evil.ckpt")


def test_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"step": 1})

    def fail(state, file):
        file.write(b"half")
        raise RuntimeError("killed in the middle")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError):
        save_checkpoint(path, {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert load_checkpoint(path)["step"] == 1


def test_a_missing_gpu_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="there is no GPU") as error:
        find_device("cuda")
    assert "--device cpu" in error.value.cure
    assert find_device("auto").type == "cpu"


def test_unknown_device_and_half_precision_on_a_cpu():
    with pytest.raises(OptionError, match="tpu"):
        find_device("tpu")
    with pytest.raises(OptionError, match="needs a GPU"):
        resolve_precision("16", torch.device("cpu"))


def test_resuming_with_another_number_of_threads_warns(tmp_path):
    before = torch.get_num_threads()
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=15), resume="auto")
    try:
        torch.set_num_threads(before + 1)
        with pytest.warns(UserWarning, match=f"{before} CPU thread.*continues with {before + 1}.*--threads {before}"):
            run_toy(tmp_path / "run", ToyTask(), resume="auto")
    finally:
        torch.set_num_threads(before)
