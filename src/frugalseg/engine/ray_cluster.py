"""A Ray cluster: connecting to it, and how many jobs of how many cores it can run."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frugalseg.errors import OptionError, RunError

CONNECT_TIMEOUT_S = 10
ATTEMPTS = 3
"""Times that a task is begun whose process or machine is lost."""


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


@dataclass(frozen=True)
class RayCluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: the package.
        at_once: number of jobs at a time.
        threads: CPU threads of each.
        gpus: GPUs of a job that uses one: 1, or 0 on a cluster without any.
        joined: the program was connected before, and stays so.
        most: number of jobs at a time that was asked for.
    """

    ray: Any
    at_once: int
    threads: int
    gpus: int
    joined: bool = False
    most: int | None = None

    @classmethod
    def connect(cls, address: str, at_once: int | None, threads: int | None) -> RayCluster:
        """Connect to a cluster.

        Args:
            address: local (start a cluster on this machine), auto (use the cluster that this program is connected to,
                otherwise the one running here), or an address.
            at_once: jobs at a time; None for as many as the cluster has cores (or GPUs) for.
            threads: CPU threads of each job; None for the cores of the largest machine, divided by its number of jobs
                (from `at_once`, or one per GPU).

        Raises:
            OptionError: Ray is not installed.
            RunError: the cluster cannot be reached, or no machine of it has that many cores.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends usage statistics by default
        try:
            import ray
        except ImportError:
            raise OptionError("--ray needs Ray, which is not installed", "pip install 'frugalseg[cluster]'") from None
        joined = address == "auto" and ray.is_initialized()
        if not joined:
            _initialize(ray, address, (at_once or 1) * (threads or 1))
        machines = [_Machine.from_resources(node["Resources"]) for node in _list_usable(ray)]
        best = max(machines, key=lambda m: m.cores, default=_Machine(0, 0))
        threads = threads or best.cores_per_job(math.ceil(at_once / len(machines)) if at_once and machines else None)
        fitting = sum(m.count_jobs(threads) for m in machines)
        if fitting == 0:
            if not joined:
                ray.shutdown()
            raise RunError(
                f"--ray {address}: no machine of the cluster has {threads} cores, the largest has {best.cores}",
                "give fewer --threads",
            )
        gpus = 1 if any(machine.gpus for machine in machines) else 0
        return cls(ray, min(at_once or fitting, fitting), threads, gpus, joined, at_once)

    def list_machines(self) -> list[dict[str, Any]]:
        """Ray's descriptions of the machines that can run a job now."""
        fitting = (node for node in _list_usable(self.ray) if node["Resources"].get("CPU", 0) >= self.threads)
        return list(fitting)

    def count_submitted(self) -> int:
        """How many jobs to submit: as many as were asked for, otherwise twice those that fit on the machines that are
        there now, so that none waits for its next job."""
        machines = [_Machine.from_resources(node["Resources"]) for node in self.list_machines()]
        return self.most or max(2, 2 * sum(machine.count_jobs(self.threads) for machine in machines))

    def close(self) -> None:
        """Disconnect; a cluster that was started for this process ends."""
        if not self.joined:
            self.ray.shutdown()


def first_line(error: Exception) -> str:
    """What happened, in one sentence: Ray's messages have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].partition(". ")[0].rstrip(".") if lines else type(error).__name__


def _list_usable(ray: Any) -> list[dict[str, Any]]:
    """Ray's descriptions of the machines that are up; of a cluster with GPUs, of the machines that have some."""
    up = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in up if node["Resources"].get("GPU", 0) >= 1] or up


def _initialize(ray: Any, address: str, cores: int) -> None:
    if address == "local":
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address="local", num_cpus=cores, **quiet)
        return
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        _silence_logs()
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(f"--ray {address}: no cluster answers ({error})", "start one with `ray start`") from error


def _silence_logs() -> None:
    """Keep Ray from printing the logs of a lost machine among the results, for which it has no setting."""
    from ray._private import worker

    worker._worker_logs_enabled = False


def _check_reachable(address: str) -> None:
    """Raise `OSError` if nothing listens at an address with a port; Ray itself would retry for 15 minutes."""
    if match := re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d+)", address):
        socket.create_connection((match["host"], int(match["port"])), timeout=CONNECT_TIMEOUT_S).close()
