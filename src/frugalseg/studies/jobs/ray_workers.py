"""Jobs as tasks of a Ray cluster: the same function as in a local process, so the same figures."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.errors import OptionError, RunError
from frugalseg.studies.jobs.job import Job
from frugalseg.studies.jobs.workers import POLL_S, Workers

KNOCK_S = 10


@dataclass(frozen=True)
class _Machine:
    """What one machine of a cluster has. A job runs on one machine, however many there are."""

    cores: int
    gpus: int

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> _Machine:
        """As Ray tells it."""
        return cls(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))

    def share(self, jobs: int | None) -> int:
        """Cores for each of so many jobs; by default one job a GPU, or one."""
        return max(1, self.cores // (jobs or self.gpus or 1))

    def jobs(self, threads: int) -> int:
        """Jobs of so many threads that run here at a time."""
        fitting = self.cores // threads
        return min(fitting, self.gpus) if self.gpus else fitting


def _knock(address: str) -> None:
    """Raise `OSError` where nothing listens at an address with a port; Ray itself would try for 15 minutes."""
    if match := re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d+)", address):
        socket.create_connection((match["host"], int(match["port"])), timeout=KNOCK_S).close()


class RayWorkers(Workers):
    """A task a job; the study's folder and the scans must be the same paths on all machines.

    Ray does one task after the other in a process, and gives each task on a GPU a process of its own. A process that
    crashes fails its task alone.

    Args:
        folder: the study's folder.
        address: local (start a cluster of this machine), auto (the one that runs here), or an address.
        at_once: jobs at a time; None for as many as the cluster has cores (or GPUs) for.
        threads: CPU threads of each; None for as many as the machine with the most cores has for one: all where each
            machine gets one job, its share where there are more (by `at_once`, or one a GPU).

    Raises:
        OptionError: Ray is not installed.
        RunError: the cluster cannot be reached, or no one machine of it has that many cores.
    """

    def __init__(self, folder: Path, address: str, at_once: int | None, threads: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send statistics home
        try:
            import ray
        except ImportError:
            raise OptionError("--ray needs Ray, which is not installed", "pip install 'frugalseg[cluster]'") from None
        self._ray = ray
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            ray.init(address="local", num_cpus=(at_once or 1) * (threads or 1), **quiet)
        else:
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, ValueError, RuntimeError) as error:
                raise RunError(
                    f"--ray {address}: no cluster conclusions ({error})", "start one with `ray start`"
                ) from error
        machines = [_Machine.of(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        machines = [m for m in machines if m.gpus] or machines  # where there are GPUs, they train
        self._gpus = 1 if any(m.gpus for m in machines) else 0
        best = max(machines, key=lambda m: m.cores, default=_Machine(0, 0))
        threads = threads or best.share(math.ceil(at_once / len(machines)) if at_once and machines else None)
        fitting = sum(m.jobs(threads) for m in machines)
        if fitting == 0:
            ray.shutdown()
            raise RunError(
                f"--ray {address}: no machine of the cluster has {threads} cores, the largest has {best.cores}",
                "give fewer --threads",
            )
        super().__init__(folder, min(at_once or fitting, fitting), threads)
        self._tasks: dict[Any, str] = {}

    def start(self, job: Job) -> None:
        """Hand a job to the cluster."""
        from frugalseg.studies.jobs.runner import run_job

        self._note_start(job)
        remote = self._ray.remote(max_retries=0)(run_job)
        gpus = self._gpus if job.LASTS else 0
        task = remote.options(num_cpus=self.threads, num_gpus=gpus, name=job.id)
        self._tasks[task.remote(job, self.folder, self.threads)] = job.id

    def ended(self) -> list[str]:
        """See `Workers.ended`."""
        if not self._tasks:
            return []
        finished, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=POLL_S)
        gone = []
        for task in finished:
            job, cause = self._tasks.pop(task), "the task ended without a word"
            try:
                self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                cause = f"the task was lost: {str(error).splitlines()[0]}"
            self._note_end(job, cause)
            gone.append(job)
        return gone

    def running(self) -> list[str]:
        """See `Workers.running`."""
        return list(self._tasks.values())

    def stop(self, at_once: bool) -> None:
        """Cancel all tasks: as Ctrl-C would, or by killing their processes."""
        self._stopping = True
        for task in self._tasks:
            self._ray.cancel(task, force=at_once)

    def close(self) -> None:
        """Leave the cluster; one that was started for this study ends."""
        self._ray.shutdown()
