"""Workers run jobs: in processes of this machine (here), or as tasks of a Ray cluster (`ray_workers`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from frugalseg.records.study import JobState
from frugalseg.studies.jobs.job import Job
from frugalseg.studies.jobs.state import read_state, write_state

POLL_S = 0.25
PRELOADED_MODULES = [
    "frugalseg.studies.jobs.runner",
    "frugalseg.commands.finetune",
    "frugalseg.segmentation.predict",
    "lightning_fabric",
    "pyarrow.parquet",
]
"""Modules imported once, in the fork server that all job processes are forked from, instead of in every job."""


class Workers(ABC):
    """Run jobs, several at a time; the result of each is in its state file.

    Attributes:
        folder: the study's folder.
        at_once: jobs at a time.
        threads: CPU threads of each.
    """

    def __init__(self, folder: Path, at_once: int, threads: int) -> None:
        self.folder, self.at_once, self.threads = folder, at_once, threads
        self._stopping = False

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job; at most `at_once` may run."""

    @abstractmethod
    def collect_ended(self) -> list[str]:
        """Wait up to `POLL_S`; return the ids of the jobs that have ended, after writing their states."""

    @abstractmethod
    def list_running(self) -> list[str]:
        """Ids of the running jobs."""

    @abstractmethod
    def stop(self, at_once: bool) -> None:
        """Ask all jobs to write a checkpoint and end, or end them at once."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""

    def _record_start(self, job: Job) -> None:
        log = f"logs/{job.id}.log"
        write_state(self.folder, job.id, JobState("running", log=log, started=time.time(), threads=self.threads))

    def _record_end(self, job: str, cause: str) -> None:
        """Write the final state of a job that could not write it itself; `cause` says how its process ended."""
        state = read_state(self.folder, job)
        if state.state != "running":
            return
        ending: JobState = replace(state, seconds=round(time.time() - state.started, 3))
        if self._stopping:
            write_state(self.folder, job, replace(ending, state="interrupted", error="stopped"))
        else:
            write_state(self.folder, job, replace(ending, state="failed", error=f"{cause}\n  → see {state.log}"))


class LocalWorkers(Workers):
    """One process per job: a job that crashes or is killed does not affect the others.

    Args:
        folder, at_once, threads: see `Workers`.
        gpus: with several GPUs, the values of CUDA_VISIBLE_DEVICES that jobs get in turn.
    """

    def __init__(self, folder: Path, at_once: int, threads: int, gpus: Sequence[str] = ()) -> None:
        super().__init__(folder, at_once, threads)
        self._gpus = gpus
        self._slots = list(range(at_once))
        self._processes: dict[str, tuple[BaseProcess, int]] = {}
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(PRELOADED_MODULES)
            # The libraries of numpy read the variable when they are loaded.
            with _set_environment(OMP_NUM_THREADS=str(threads)), _block_sigterm():
                forkserver.ensure_running()

    def start(self, job: Job) -> None:
        """Start a job in a new process."""
        slot = self._slots.pop(0)
        gpu = self._gpus[slot % len(self._gpus)] if len(self._gpus) > 1 else None
        self._record_start(job)
        process = self._context.Process(target=_run_in_process, args=(job, self.folder, self.threads, gpu), name=job.id)
        process.start()
        self._processes[job.id] = (process, slot)

    def collect_ended(self) -> list[str]:
        """See `Workers.collect_ended`."""
        wait([process.sentinel for process, _ in self._processes.values()], timeout=POLL_S)
        gone = [job for job, (process, _) in self._processes.items() if not process.is_alive()]
        for job in gone:
            process, slot = self._processes.pop(job)
            process.join()
            self._slots.append(slot)
            self._record_end(job, _describe_exit(process.exitcode))
        return gone

    def list_running(self) -> list[str]:
        """See `Workers.list_running`."""
        return list(self._processes)

    def stop(self, at_once: bool) -> None:
        """Send SIGTERM to all jobs, or SIGKILL."""
        self._stopping = True
        for process, _ in self._processes.values():
            if at_once:
                process.kill()
            else:
                process.terminate()

    def close(self) -> None:
        """Kill the jobs that still run."""
        self.stop(at_once=True)
        for process, _ in self._processes.values():
            process.join()


@contextmanager
def _set_environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _block_sigterm() -> Iterator[None]:
    """Processes started in this context ignore SIGTERM. Batch systems and `timeout` send it to all processes of a
    study; if it ended the fork server, all jobs would end before they wrote their checkpoints."""
    resource_tracker.ensure_running()  # else the fork server starts it, and that unblocks SIGTERM again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe_exit(code: int | None) -> str:
    """How a process ended, in words."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "the process was killed, most likely because memory ran out (a smaller --jobs may help)"
    if code is not None and code < 0:
        return f"the process crashed ({signal.Signals(-code).name})"
    return f"the process ended with code {code}"


def _run_in_process(job: Job, folder: Path, threads: int, gpu: str | None) -> None:
    if os.name == "posix":
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches only the study, which then stops its jobs
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from frugalseg.studies.jobs.runner import run_job

    run_job(job, folder, threads)


def _end_with_parent() -> None:
    """End this job when the study is killed, so that it does not collide with the same job of a restarted study.

    Checkpoints are written atomically, so this is safe at any time.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def list_visible_gpus() -> list[str]:
    """The GPUs that jobs may use, as values of CUDA_VISIBLE_DEVICES."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
