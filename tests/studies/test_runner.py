"""How a job's end is told."""

from __future__ import annotations

import pytest
import torch

from frugalseg.studies.jobs import runner as room
from frugalseg.studies.jobs.job import Job
from frugalseg.studies.jobs.runner import run_job


def _full():
    raise MemoryError


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (_full, "not enough memory\n  → run with a smaller --jobs"),
        (lambda: torch.empty(10**15), "not enough memory\n  → run with a smaller --jobs"),
        (lambda: torch.empty(2) @ torch.empty(3), "RuntimeError: "),
    ],
)
def test_too_little_memory_is_told_with_what_helps(tmp_path, monkeypatch, fail, told):
    monkeypatch.setitem(room.JOB_HANDLERS, Job, lambda job, threads: fail())
    state = run_job(Job(id="large"), tmp_path, threads=1)
    assert state.state == "failed"
    assert state.error.startswith(told)
