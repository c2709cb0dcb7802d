"""Programs run by two processes that share one training, as torchrun starts them."""

from __future__ import annotations

import os
import subprocess
import sys
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
