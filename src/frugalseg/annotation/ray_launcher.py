"""Commands of jobs as tasks of a Ray cluster, one at a time; all machines see the scans and the folder of annotations
at the same paths."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from frugalseg.annotation.launcher import Command, Launcher, start_child
from frugalseg.engine.ray_cluster import RayCluster

GRACE_S = 12.0
"""Time that a cancelled command has to write a checkpoint."""


class RayLauncher(Launcher):
    """Starts each command as a task on a machine of a cluster.

    Args:
        address: of the cluster, see `RayCluster.connect`, also for the errors.
        threads: CPU threads of a command; None for all cores of the largest machine.
    """

    def __init__(self, address: str, threads: int | None) -> None:
        self._cluster = RayCluster.connect(address, 1, threads)
        self.threads = self._cluster.threads

    def start(self, words: Sequence[str], log: IO[bytes]) -> Command:
        """See `Launcher.start`."""
        remote = self._cluster.ray.remote(max_retries=0)(run_command)
        task = remote.options(num_cpus=self._cluster.threads, num_gpus=self._cluster.gpus, name=f"annotate {words[0]}")
        return RayCommand(self._cluster.ray, task.remote(list(words), str(Path(log.name).absolute())), log)

    def close(self) -> None:
        """See `RayCluster.close`."""
        self._cluster.close()


class RayCommand(Command):
    """A task that runs a command.

    Args:
        ray: the package.
        task: the reference to its result.
        log: where a lost task is noted.
    """

    def __init__(self, ray: Any, task: Any, log: IO[bytes]) -> None:
        self._ray, self._task, self._log = ray, task, log
        self._status: int | None = None

    def poll(self) -> int | None:
        """See `Command.poll`."""
        if self._status is None and self._ray.wait([self._task], timeout=0)[0]:
            try:
                self._status = int(self._ray.get(self._task))
            except self._ray.exceptions.TaskCancelledError:
                self._status = -signal.SIGTERM
            except self._ray.exceptions.RayError as error:
                cause = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._log.write(f"error: the task was lost: {cause}\n  → see `ray status`, then resume\n".encode())
                self._log.flush()
                self._status = 1
        return self._status

    def interrupt(self) -> None:
        """See `Command.interrupt`."""
        self._ray.cancel(self._task)

    def kill(self) -> None:
        """See `Command.kill`."""
        if self.poll() is None:
            self._ray.cancel(self._task, force=True)


def run_command(words: list[str], log: str) -> int:
    """Run a command in a process beside the task, which cancelling interrupts; returns its exit status."""
    with Path(log).open("ab") as file:
        process = start_child(words, file)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            try:
                return process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()
