"""What a benchmark case is, and how one turn of it is measured."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock

OURS = "frugalseg"
"""Name of every case's first way, with which the others are compared; only this way is run in another checkout."""

Value = TypeVar("Value")


class Skipped(Exception):  # noqa: N818 - not an error
    """A way cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one unit of work.

    Attributes:
        cpu: of all threads of this process, and of the processes that it started and that have ended.
        wall: elapsed.
    """

    cpu: float
    wall: float

    def per(self, units: float) -> Cost:
        """The cost of one of `units`."""
        return Cost(self.cpu / units, self.wall / units)


Work = Callable[[], Cost]
"""One turn: does the work, and returns its cost per unit."""


@dataclass(frozen=True)
class Setting:
    """Where and how a way is measured.

    Attributes:
        folder: for inputs, shared by all ways that run on the same checkout.
        smoke: everything at its smallest size, in this process: only to see that it runs.
        device: cpu or cuda.
    """

    folder: Path
    smoke: bool = False
    device: str = "cpu"

    def pick(self, full: Value, smoke: Value) -> Value:
        """The value for a measurement, or the one for a smoke test."""
        return smoke if self.smoke else full

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The input called `name`, made by the first way that needs it.

        Args:
            name: file or folder in `folder`.
            make: writes it to the given path; it runs in a process of its own, so that peak memory is that of the
                measured work, and must therefore be picklable.
        """
        path = self.folder / name
        with FileLock(self.folder / f"{name}.lock"):  # ways are built at the same time
            if not path.exists():
                unfinished = path.with_name(f"unfinished-{name}")
                if self.smoke:
                    make(unfinished)
                else:
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                        process.submit(make, unfinished).result()
                unfinished.rename(path)
        return path

    def empty(self, name: str) -> Path:
        """A path for results in which nothing is."""
        path = self.folder / f"{name}-{os.getpid()}"
        shutil.rmtree(path, ignore_errors=True)
        return path


Way = Callable[[Setting], Work]
"""Builds what is timed."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: as `--only` takes it.
        unit: what the seconds are for.
        ways: by name; the first is called `OURS`.
        clock: cpu where one thread works, wall where waiting or several threads matter.
        memory: whether the peak memory of the processes is reported.
        environment: of a way's process, beside OMP_NUM_THREADS=1.
    """

    name: str
    unit: str
    ways: Mapping[str, Way]
    clock: Literal["cpu", "wall"] = "cpu"
    memory: bool = False
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def now() -> Cost:
    """The clocks: CPU seconds of this process and of its children that ended, and elapsed seconds."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter())


def timed(work: Callable[[], object], units: float = 1) -> Work:
    """Time `work`, which does so many units."""

    def turn() -> Cost:
        begun = now()
        work()
        ended = now()
        return Cost(ended.cpu - begun.cpu, ended.wall - begun.wall).per(units)

    return turn


def median_step(train: Callable[[], object]) -> Cost:
    """Median cost of a step of a training, from the second one on.

    PyTorch calls the hook after each step of every optimiser in the process: a whole command is run as users run it,
    whatever its loop looks like, and only its steps count.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    read: list[Cost] = []
    hook = register_optimizer_step_post_hook(lambda *_: read.append(now()))
    try:
        train()
    finally:
        hook.remove()
    steps = [Cost(b.cpu - a.cpu, b.wall - a.wall) for a, b in pairwise(read)]
    return Cost(statistics.median(s.cpu for s in steps), statistics.median(s.wall for s in steps))


def peak_mb() -> float:
    """Peak memory of this process, MiB: reserved on the GPU if it uses one, otherwise resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_reserved()) / 2**20
    try:  # ru_maxrss of a new program may be that of the one that started it
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):  # another system than Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
