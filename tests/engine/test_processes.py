"""Two processes share a batch and learn what one would have."""

from __future__ import annotations

import signal
import time

import pytest
import torch
from torch import nn

from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.engine.device import make_fabric
from frugalseg.engine.launch import choose_gpu, join_slurm_step, require_one_process
from frugalseg.engine.processes import check_batch_norm
from frugalseg.errors import OptionError
from tests.engine.toy import SmoothTask, run_toy
from tests.processes import run_twice, start_slurm_tasks, start_twice

WORKER = """
from frugalseg.engine.device import leave_process_group
from tests.engine.toy import SmoothTask, run_toy
run_toy(Path(sys.argv[1]), SmoothTask(), resume=sys.argv[2], steps=int(sys.argv[3]), every=5)
leave_process_group()
"""

SLOW_WORKER = """
import time
from frugalseg.engine.device import leave_process_group
from frugalseg.errors import InterruptedRunError
from tests.engine.toy import SmoothTask, run_toy

class SlowTask(SmoothTask):
    def losses(self, model, rows):
        (Path(sys.argv[1]).parent / "training").touch()
        time.sleep(0.02)
        return super().losses(model, rows)

try:
    run_toy(Path(sys.argv[1]), SlowTask(), resume=sys.argv[2], steps=int(sys.argv[3]), every=5)
except InterruptedRunError as error:
    print(error.problem, file=sys.stderr)
    sys.exit(error.exit_code)
finally:
    leave_process_group()
"""

DIFFERENT_WORKER = """
from frugalseg.engine.device import leave_process_group
from frugalseg.errors import RunError
from tests.engine.toy import SmoothTask, run_toy
import os
try:
    run_toy(Path(sys.argv[1] + os.environ["RANK"]), SmoothTask(), steps=5, every=5)
except RunError as error:
    assert "different options" in error.problem
else:
    raise AssertionError("trained together")
leave_process_group()
"""


def torchrun(out, resume, steps):
    run_twice(out.parent, WORKER, out, resume, steps)


def weights(out):
    return load_checkpoint(out / "checkpoints" / "last.ckpt")["model"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("together") / "two"
    torchrun(out, "no", 20)
    return out


def test_two_processes_equal_one(tmp_path, together):
    run_toy(tmp_path / "one", SmoothTask(), steps=20, every=5)
    one, two = weights(tmp_path / "one"), weights(together)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert len((together / "metrics.jsonl").read_text().splitlines()) == 4


def test_ctrl_c_under_torchrun_writes_a_checkpoint_to_continue_from(tmp_path, together):
    out = tmp_path / "stopped"
    with start_twice(tmp_path, SLOW_WORKER, out, "no", 20) as process:
        wait_for(tmp_path / "training")
        process.send_signal(signal.SIGINT)
        _, heard = process.communicate(timeout=120)
    step = load_checkpoint(out / "checkpoints" / "last.ckpt")["step"]
    assert 0 < step < 20
    assert heard.count(f"after step {step} of 20; the checkpoint is written") == 2  # both after the same step
    torchrun(out, "yes", 20)
    assert same(weights(together), weights(out))


def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    out = tmp_path / "stopped"
    first, second = start_slurm_tasks(tmp_path, SLOW_WORKER, out, "no", 1000)
    wait_for(tmp_path / "training")
    second.send_signal(signal.SIGTERM)
    heard = [process.communicate(timeout=120)[1] for process in (first, second)]
    step = load_checkpoint(out / "checkpoints" / "last.ckpt")["step"]
    assert f"stopped by a signal to another process after step {step}" in heard[0]
    assert f"stopped by SIGTERM after step {step}" in heard[1]


def test_tasks_of_srun_are_one_training(tmp_path, together):
    tasks = start_slurm_tasks(tmp_path, WORKER, tmp_path / "slurm", "no", 20)
    heard = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], heard
    assert same(weights(together), weights(tmp_path / "slurm"))
    assert heard[1] == ""  # only the first prints


def test_processes_with_different_options_are_refused(tmp_path):
    run_twice(tmp_path, DIFFERENT_WORKER, tmp_path / "out")
    assert not (tmp_path / "out0").exists()


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2", "SLURM_NTASKS": "3", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


def test_the_variables_of_srun_become_those_of_torchrun():
    environ = {**STEP, "SLURM_STEP_NODELIST": "node[03-05],other"}
    join_slurm_step(environ)
    meeting = {"MASTER_ADDR": "node03", "MASTER_PORT": "20219"}
    mine = {"WORLD_SIZE": "3", "RANK": "1", "GROUP_RANK": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    assert {name: environ[name] for name in meeting | mine} == meeting | mine
    assert (choose_gpu(4, environ), choose_gpu(1, environ)) == (1, 0)  # all GPUs are visible, or only its own


@pytest.mark.parametrize(
    "environ",
    [
        {name: value for name, value in STEP.items() if name != "SLURM_STEP_ID"},  # a batch script, not a task
        {**STEP, "SLURM_NTASKS": "1"},
        {**STEP, "WORLD_SIZE": "2", "RANK": "0"},  # torchrun in a task
    ],
)
def test_other_commands_in_a_slurm_job_stay_as_they_are(environ):
    before = dict(environ)
    join_slurm_step(environ)
    assert environ == before


def test_one_process_in_a_slurm_job_needs_no_srun(monkeypatch):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    assert make_fabric("cpu", "32").world_size == 1


class TwoProcesses:
    world_size, device = 2, torch.device("cpu")


def test_batch_norm_on_cpus_is_refused():
    check_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)), TwoProcesses())
    with pytest.raises(OptionError, match=r"batch norm, whose statistics 2 processes .* GPUs only"):
        check_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), TwoProcesses())


def test_commands_of_one_process_say_so(monkeypatch):
    require_one_process("SAM-Mix trains in one process")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="SAM-Mix trains in one process, and 2 were started together"):
        require_one_process("SAM-Mix trains in one process")


def wait_for(path):
    begun = time.monotonic()
    while not path.exists():
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
