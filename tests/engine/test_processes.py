"""Two processes share a batch and learn what one would have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from frugalseg.engine.checkpoint import load_checkpoint

from .toy import SmoothTask, run_toy

WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.engine.toy import SmoothTask, run_toy
run_toy(Path(sys.argv[1]), SmoothTask(), resume=sys.argv[2], steps=int(sys.argv[3]), every=5)
"""


def torchrun(out, resume, steps):
    root = Path(__file__).resolve().parents[2]
    script = out.parent / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"PYTHONPATH": str(root)}
    result = subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", script, out, resume, str(steps)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def weights(out):
    return load_checkpoint(out / "checkpoints" / "last.ckpt")["model"]


def test_two_processes_equal_one_and_resume_exactly(tmp_path):
    run_toy(tmp_path / "one", SmoothTask(), steps=20, every=5)
    torchrun(tmp_path / "two", "no", 20)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 4
    torchrun(tmp_path / "broken", "no", 10)
    torchrun(tmp_path / "broken", "yes", 20)
    broken = weights(tmp_path / "broken")
    assert all(torch.equal(two[name], broken[name]) for name in two)
