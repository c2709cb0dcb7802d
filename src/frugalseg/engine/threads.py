"""Number of CPU threads of a command, and how idle threads wait.

This module does not import PyTorch, which reads the waiting policy from the environment when it is loaded.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

THREADS_VARIABLE = "OMP_NUM_THREADS"
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Setting of GNU's, LLVM's and Intel's OpenMP: idle threads sleep instead of keeping their core busy."""
OTHER_POLICIES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that also set how idle threads wait."""

Result = TypeVar("Result")
CGROUPS = Path("/sys/fs/cgroup")


class ThreadedOptions(Protocol):
    """Options of a command that computes."""

    @property
    def threads(self) -> int | None:
        """Number of CPU threads; None for the default."""


Options = TypeVar("Options", bound=ThreadedOptions)


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep, unless the user's environment sets how they wait.

    Spinning threads occupy cores that others need: beside another job, a training is then many times slower than on one
    thread. Has an effect only before PyTorch is loaded.
    """
    if not any(name in environment for name in (*PASSIVE, *OTHER_POLICIES)):
        environment.update(PASSIVE)


def usable_cores() -> int:
    """Cores that this process may use, by its affinity (`taskset`, Slurm) and its control groups (containers)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _read_cgroup_cores())))


def _read_cgroup_cores(memberships: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> float:
    """Cores that the control groups allow this process; infinite without a limit."""
    try:
        lines = memberships.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return math.inf
    limits = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root if not controllers else root / "cpu"
        group = base / path.lstrip("/")
        limits += [_read_cgroup_limit(folder) for folder in (group, *group.parents) if folder.is_relative_to(base)]
    return min(limits)


def _read_cgroup_limit(group: Path) -> float:
    """Limit of one control group, in cores: cpu.max (version 2), or cpu.cfs_quota_us and cpu.cfs_period_us."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError):  # no readable limit
        return math.inf


_requested: list[int] = []
"""--threads of the running commands, the innermost last."""


def requested_threads() -> int | None:
    """Threads requested by --threads, otherwise by OMP_NUM_THREADS; None without either."""
    if _requested:
        return _requested[-1]
    first = os.environ.get(THREADS_VARIABLE, "").split(",")[0].strip()  # a list is for nested regions
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cores_to_use() -> int:
    """Number of cores to use: those requested, otherwise all usable ones."""
    return requested_threads() or usable_cores()


@contextmanager
def use_threads(threads: int | None) -> Iterator[None]:
    """Compute with this many CPU threads; None: as many as an outer command or OMP_NUM_THREADS requests, otherwise one
    per usable physical core. The same number gives the same results.

    PyTorch is not imported for this: a module that computes with it imports it before its commands run.
    """
    if threads is not None:
        _requested.append(threads)
    try:
        with _torch_threads() if "torch" in sys.modules else nullcontext():
            yield
    finally:
        if threads is not None:
            _requested.pop()


@contextmanager
def _torch_threads() -> Iterator[None]:
    """Let PyTorch compute with as many threads as were asked for."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(requested_threads() or min(before, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(command: Callable[[Options], Result]) -> Callable[[Options], Result]:
    """Decorator of a command: compute with the `threads` of its options."""

    @functools.wraps(command)
    def run_with_threads(options: Options) -> Result:
        with use_threads(options.threads):
            return command(options)

    return run_with_threads


def prepare_environment(threads: int | None) -> None:
    """Set variables that libraries read when they are loaded: how threads wait, how many there are, no telemetry."""
    wait_passively()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if sys.platform == "darwin":  # operations that a Mac's GPU does not have are computed on the CPU
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if threads is not None and "torch" not in sys.modules:
        os.environ[THREADS_VARIABLE] = str(threads)
