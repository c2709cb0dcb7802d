"""How many CPU threads a command computes with, and how they wait for each other.

Importing this loads nothing heavy: how threads wait is read from the environment when PyTorch is loaded.
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

LIMIT = "OMP_NUM_THREADS"
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""GNU's, LLVM's and Intel's OpenMP know it: a thread without work sleeps instead of keeping its core busy."""
OTHER_POLICIES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The same settings as numbers."""

Result = TypeVar("Result")
CGROUPS = Path("/sys/fs/cgroup")


class ThreadedOptions(Protocol):
    """The options of a command that computes."""

    @property
    def threads(self) -> int | None:
        """CPU threads, or None for as many as may be used."""


Options = TypeVar("Options", bound=ThreadedOptions)


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that have nothing to do sleep, unless the user's environment says how they wait.

    Spinning threads take the cores that others need: beside another job a training is then many times slower than on
    one thread. Of use only before PyTorch is loaded; after that nothing changes.
    """
    if not any(name in environment for name in (*PASSIVE, *OTHER_POLICIES)):
        environment.update(PASSIVE)


def usable_cores() -> int:
    """Cores that this process may use: by its affinity (`taskset`, Slurm), and by its control group (containers)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota())))


def _quota(memberships: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> float:
    """Cores that the control groups of this process may use together; infinite where nothing limits them."""
    try:
        lines = memberships.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        return math.inf
    limits = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root if not controllers else root / "cpu"
        group = base / path.lstrip("/")
        limits += [_limit_of(folder) for folder in (group, *group.parents) if folder.is_relative_to(base)]
    return min(limits)


def _limit_of(group: Path) -> float:
    """Cores that one control group may use: cpu.max of version 2, or the two files of version 1."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    except (OSError, ValueError):  # no limit that could be read
        return math.inf


_asked: list[int] = []
"""--threads of the commands that run, the innermost last."""


def threads_asked() -> int | None:
    """What --threads says, or else OMP_NUM_THREADS; None where neither does."""
    if _asked:
        return _asked[-1]
    first = os.environ.get(LIMIT, "").split(",")[0].strip()  # a list is for nested regions
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cores_to_use() -> int:
    """Cores that the work may be spread over."""
    return threads_asked() or usable_cores()


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """Compute with so many CPU threads; with None as many as OMP_NUM_THREADS or an outer command says, or else one a
    physical core that this process may use. The same number gives the same results.

    PyTorch is not imported for this: a module that computes with it imports it before its commands run.
    """
    if threads is not None:
        _asked.append(threads)
    try:
        with _torch_threads() if "torch" in sys.modules else nullcontext():
            yield
    finally:
        if threads is not None:
            _asked.pop()


@contextmanager
def _torch_threads() -> Iterator[None]:
    """Let PyTorch compute with as many threads as were asked for."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads_asked() or min(before, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(command: Callable[[Options], Result]) -> Callable[[Options], Result]:
    """A command that computes with the `threads` of its options."""

    @functools.wraps(command)
    def limited(options: Options) -> Result:
        with using_threads(options.threads):
            return command(options)

    return limited


def prepare_environment(threads: int | None) -> None:
    """What must be said before PyTorch and numpy are loaded: how to wait, and how many threads they may start."""
    wait_passively()
    if threads is not None and "torch" not in sys.modules:
        os.environ[LIMIT] = str(threads)
