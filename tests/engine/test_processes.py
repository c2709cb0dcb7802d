"""Two processes share a batch and learn what one would have."""

from __future__ import annotations

import torch

from frugalseg.engine.checkpoint import load_checkpoint
from tests.engine.toy import SmoothTask, run_toy
from tests.processes import run_twice

WORKER = """
from frugalseg.engine.device import leave_process_group
from tests.engine.toy import SmoothTask, run_toy
run_toy(Path(sys.argv[1]), SmoothTask(), resume=sys.argv[2], steps=int(sys.argv[3]), every=5)
leave_process_group()
"""


def torchrun(out, resume, steps):
    run_twice(out.parent, WORKER, out, resume, steps)


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
