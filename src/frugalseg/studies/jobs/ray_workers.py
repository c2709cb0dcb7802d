"""Jobs as tasks of a Ray cluster; they run the same function as in a local process, with the same results."""

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

CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True)
class _Machine:
    """The resources of one machine of a cluster; a job runs on a single machine."""

    cores: int
    gpus: int

    @classmethod
    def from_resources(cls, resources: Mapping[str, float]) -> _Machine:
        """From the resources that Ray reports for a node."""
        return cls(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))

    def cores_per_job(self, jobs: int | None) -> int:
        """Cores per job for this number of jobs, by default one job per GPU, or a single one."""
        return max(1, self.cores // (jobs or self.gpus or 1))

    def count_jobs(self, threads: int) -> int:
        """The number of jobs with this number of threads that the machine runs at a time."""
        fitting = self.cores // threads
        return min(fitting, self.gpus) if self.gpus else fitting


def _check_reachable(address: str) -> None:
    """Raise `OSError` if nothing listens at an address with a port; Ray itself would retry for 15 minutes."""
    if match := re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d+)", address):
        socket.create_connection((match["host"], int(match["port"])), timeout=CONNECT_TIMEOUT_S).close()


class RayWorkers(Workers):
    """One task per job; the study's folder and the scans must have the same paths on all machines.

    Ray runs several tasks one after the other in the same process, but each task on a GPU in a separate process. A
    crashed process fails only its task.

    Args:
        folder: the study's folder.
        address: local (start a cluster on this machine), auto (use the running cluster), or an address.
        at_once: jobs at a time; None for as many as the cluster has cores (or GPUs) for.
        threads: CPU threads of each job; None for the cores of the largest machine, divided by its number of jobs
            (from `at_once`, or one per GPU).

    Raises:
        OptionError: Ray is not installed.
        RunError: the cluster cannot be reached, or no machine of it has that many cores.
    """

    def __init__(self, folder: Path, address: str, at_once: int | None, threads: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends usage statistics by default
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
                _check_reachable(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, ValueError, RuntimeError) as error:
                raise RunError(
                    f"--ray {address}: no cluster answers ({error})", "start one with `ray start`"
                ) from error
        machines = [_Machine.from_resources(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        machines = [m for m in machines if m.gpus] or machines  # prefer machines with GPUs
        self._gpus = 1 if any(m.gpus for m in machines) else 0
        best = max(machines, key=lambda m: m.cores, default=_Machine(0, 0))
        threads = threads or best.cores_per_job(math.ceil(at_once / len(machines)) if at_once and machines else None)
        fitting = sum(m.count_jobs(threads) for m in machines)
        if fitting == 0:
            ray.shutdown()
            raise RunError(
                f"--ray {address}: no machine of the cluster has {threads} cores, the largest has {best.cores}",
                "give fewer --threads",
            )
        super().__init__(folder, min(at_once or fitting, fitting), threads)
        self._tasks: dict[Any, str] = {}

    def start(self, job: Job) -> None:
        """Submit a job to the cluster."""
        from frugalseg.studies.jobs.runner import run_job

        self._record_start(job)
        remote = self._ray.remote(max_retries=0)(run_job)
        gpus = self._gpus if job.RESULT_IS_KEPT else 0
        task = remote.options(num_cpus=self.threads, num_gpus=gpus, name=job.id)
        self._tasks[task.remote(job, self.folder, self.threads)] = job.id

    def collect_ended(self) -> list[str]:
        """See `Workers.collect_ended`."""
        if not self._tasks:
            return []
        finished, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=POLL_S)
        gone = []
        for task in finished:
            job, cause = self._tasks.pop(task), "the task ended without an error message"
            try:
                self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                cause = f"the task was lost: {str(error).splitlines()[0]}"
            self._record_end(job, cause)
            gone.append(job)
        return gone

    def list_running(self) -> list[str]:
        """See `Workers.list_running`."""
        return list(self._tasks.values())

    def stop(self, at_once: bool) -> None:
        """Cancel all tasks: as with Ctrl-C, or by killing their processes."""
        self._stopping = True
        for task in self._tasks:
            self._ray.cancel(task, force=at_once)

    def close(self) -> None:
        """Disconnect from the cluster; one that was started for this study ends."""
        self._ray.shutdown()
