"""Jobs as tasks of a Ray cluster; they run the same function as in a local process, with the same results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from frugalseg.engine.progress import say
from frugalseg.engine.ray_cluster import ATTEMPTS, RayCluster, first_line
from frugalseg.studies.jobs.job import Job
from frugalseg.studies.jobs.workers import POLL_S, Workers


class RayWorkers(Workers):
    """One task per job; the study's folder and the scans must have the same paths on all machines.

    Ray runs several tasks one after the other in the same process, but each task on a GPU in a separate process. A job
    whose process or machine is lost is begun again, at most `ATTEMPTS` times, from its last checkpoint.

    Args:
        folder: the study's folder.
        address, at_once, threads: see `RayCluster.connect`.

    Raises:
        OptionError, RunError: see `RayCluster.connect`.
    """

    def __init__(self, folder: Path, address: str, at_once: int | None, threads: int | None) -> None:
        self._cluster = RayCluster.connect(address, at_once, threads)
        self._ray = self._cluster.ray
        super().__init__(folder, self._cluster.at_once, self._cluster.threads)
        self._tasks: dict[Any, Job] = {}
        self._lost = Counter[str]()

    def start(self, job: Job) -> None:
        """Submit a job to the cluster."""
        from frugalseg.studies.jobs.runner import run_job

        self._record_start(job)
        remote = self._ray.remote(max_retries=0)(run_job)
        gpus = self._cluster.gpus if job.RESULT_IS_KEPT else 0
        task = remote.options(num_cpus=self.threads, num_gpus=gpus, name=job.id)
        self._tasks[task.remote(job, self.folder, self.threads)] = job

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
                cause = f"the task was lost: {first_line(error)}"
                self._lost[job.id] += 1
                if self._lost[job.id] < ATTEMPTS and not self._stopping:
                    say(f"{job.id}: {cause}; it is begun again")
                    self.start(job)
                    continue
            self._record_end(job.id, cause)
            gone.append(job.id)
        return gone

    def list_running(self) -> list[str]:
        """See `Workers.list_running`."""
        return [job.id for job in self._tasks.values()]

    def stop(self, at_once: bool) -> None:
        """Cancel all tasks: as with Ctrl-C, or by killing their processes."""
        self._stopping = True
        for task in self._tasks:
            self._ray.cancel(task, force=at_once)

    def close(self) -> None:
        """See `RayCluster.close`."""
        self._cluster.close()
