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
    root = Path(__file__).resolve().parents[1]
    script = folder / "worker.py"
    script.write_text(BEGINNING + program)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"PYTHONPATH": str(root)}
    result = subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


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
