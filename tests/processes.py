"""Programs run by two processes that share one training, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BEGINNING = """\
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
"""


def run_twice(folder: Path, program: str, *arguments: object) -> None:
    """Run a Python program in two processes that can reach each other, each on one thread; both must succeed.

    The program finds `sys`, `Path` and `torch` imported, and may import from `tests`.
    """
    with start_twice(folder, program, *arguments) as process:
        _, heard = process.communicate(timeout=300)
    assert process.returncode == 0, heard[-3000:]


def start_twice(folder: Path, program: str, *arguments: object) -> subprocess.Popen[str]:
    """As `run_twice`, but only started; standard error of both is a pipe."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return _start([*command, *meeting, _write_program(folder, program), *map(str, arguments)])


def start_slurm_tasks(folder: Path, program: str, *arguments: object, tasks: int = 2) -> list[subprocess.Popen[str]]:
    """The program in two processes with the variables of the tasks of an `srun`."""
    script = _write_program(folder, program)
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NTASKS": str(tasks)}
    return [
        _start(
            [sys.executable, script, *map(str, arguments)],
            **{**step, "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]


def _write_program(folder: Path, program: str) -> Path:
    script = folder / "worker.py"
    script.write_text(BEGINNING + program)
    return script


def _start(command: list[str | Path], **variables: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment = inherited | variables | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=pipe, text=True)


HOLD = """
import sys
from pathlib import Path
from frugalseg.engine.lock import lock_folder
from frugalseg.errors import RunError
try:
    lock = lock_folder(Path(sys.argv[1]))
except RunError as error:
    print(error.problem.partition(" in ")[0], flush=True)
else:
    print("free", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_held(folder: Path, end: int = signal.SIGTERM) -> Iterator[str]:
    """Another process that asks for the folder's lock, and ends by the signal; yields what it got to hear."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(end)


def try_lock(folder: Path) -> str:
    """What another process gets to hear that asks for the folder's lock."""
    with lock_held(folder) as heard:
        return heard
