"""Where jobs are done: in processes of this machine (here), or as tasks of a Ray cluster (`ray_workers`)."""

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
HEAVY = [
    "frugalseg.studies.jobs.runner",
    "frugalseg.commands.finetune",
    "frugalseg.segmentation.predict",
    "lightning.fabric",
    "pyarrow.parquet",
]
"""Imported once, in the process that all jobs are forked from, instead of by every job again."""


class Workers(ABC):
    """Does jobs, several at a time. How each one ended is in its state file.

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
        """Begin a job; at most `at_once` may run."""

    @abstractmethod
    def ended(self) -> list[str]:
        """Wait a moment; ids of the jobs that ended meanwhile, their states written."""

    @abstractmethod
    def running(self) -> list[str]:
        """Ids of the jobs that have not ended."""

    @abstractmethod
    def stop(self, at_once: bool) -> None:
        """Ask all jobs to write a checkpoint and end, or end them at once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def _note_start(self, job: Job) -> None:
        log = f"logs/{job.id}.log"
        write_state(self.folder, job.id, JobState("running", log=log, started=time.time(), threads=self.threads))

    def _note_end(self, job: str, cause: str) -> None:
        """Write the end of a job that did not live to write it itself, `cause` being how it ended."""
        state = read_state(self.folder, job)
        if state.state != "running":
            return
        ending: JobState = replace(state, seconds=round(time.time() - state.started, 3))
        if self._stopping:
            write_state(self.folder, job, replace(ending, state="interrupted", error="stopped"))
        else:
            write_state(self.folder, job, replace(ending, state="failed", error=f"{cause}\n  → see {state.log}"))


class LocalWorkers(Workers):
    """A process a job: one that crashes or is killed takes no other along.

    Args:
        folder, at_once, threads: see `Workers`.
        gpus: what CUDA_VISIBLE_DEVICES is set to, in turn, where there are several GPUs to share.
    """

    def __init__(self, folder: Path, at_once: int, threads: int, gpus: Sequence[str] = ()) -> None:
        super().__init__(folder, at_once, threads)
        self._gpus = gpus
        self._slots = list(range(at_once))
        self._processes: dict[str, tuple[BaseProcess, int]] = {}
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(HEAVY)
            own = _environment(OMP_NUM_THREADS=str(threads))  # numpy's libraries read it when they are loaded
            with own, _sigterm_held():
                forkserver.ensure_running()

    def start(self, job: Job) -> None:
        """Begin a job in a process of its own."""
        slot = self._slots.pop(0)
        gpu = self._gpus[slot % len(self._gpus)] if len(self._gpus) > 1 else None
        self._note_start(job)
        process = self._context.Process(target=_process, args=(job, self.folder, self.threads, gpu), name=job.id)
        process.start()
        self._processes[job.id] = (process, slot)

    def ended(self) -> list[str]:
        """See `Workers.ended`."""
        wait([process.sentinel for process, _ in self._processes.values()], timeout=POLL_S)
        gone = [job for job, (process, _) in self._processes.items() if not process.is_alive()]
        for job in gone:
            process, slot = self._processes.pop(job)
            process.join()
            self._slots.append(slot)
            self._note_end(job, _cause(process.exitcode))
        return gone

    def running(self) -> list[str]:
        """See `Workers.running`."""
        return list(self._processes)

    def stop(self, at_once: bool) -> None:
        """SIGTERM to all, or SIGKILL."""
        self._stopping = True
        for process, _ in self._processes.values():
            if at_once:
                process.kill()
            else:
                process.terminate()

    def close(self) -> None:
        """End what still runs."""
        self.stop(at_once=True)
        for process, _ in self._processes.values():
            process.join()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
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
def _sigterm_held() -> Iterator[None]:
    """Processes started meanwhile never get SIGTERM: batch systems and `timeout` send it to all processes of a study,
    and with the one that jobs are forked from all jobs would be gone, before they wrote their checkpoints."""
    resource_tracker.ensure_running()  # else started together with the other, and that lets SIGTERM through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause(code: int | None) -> str:
    """A process's end in words."""
    if code == -getattr(signal, "SIGKILL", 9):
        return "the process was killed, most likely because memory ran out (a smaller --jobs may help)"
    if code is not None and code < 0:
        return f"the process crashed ({signal.Signals(-code).name})"
    return f"the process ended with code {code}"


def _process(job: Job, folder: Path, threads: int, gpu: str | None) -> None:
    if os.name == "posix":
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches the study alone, which then stops its jobs in order
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from frugalseg.studies.jobs.runner import run_job

    run_job(job, folder, threads)


def _end_with_parent() -> None:
    """A killed study leaves no job that would collide with its successor; checkpoints are always complete."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def visible_gpus() -> list[str]:
    """The GPUs that jobs may be spread over, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
