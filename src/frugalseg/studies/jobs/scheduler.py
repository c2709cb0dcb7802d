"""Doing the jobs of a study in order, as many at a time as there are workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from frugalseg.engine.progress import say
from frugalseg.errors import InterruptedRunError
from frugalseg.interrupts import stop_requests
from frugalseg.records.study import JobState
from frugalseg.studies.jobs.job import Job
from frugalseg.studies.jobs.state import is_done, read_state, write_state
from frugalseg.studies.jobs.workers import Workers


@dataclass
class Schedule:
    """How far a schedule is.

    Attributes:
        jobs: all of them, by id.
        ended: id → final state, of what is over.
        before: ids that were done before this run.
    """

    jobs: Mapping[str, Job]
    ended: dict[str, JobState] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)

    def failed(self) -> dict[str, JobState]:
        """Id → state of the jobs that failed."""
        return {job: state for job, state in self.ended.items() if state.state == "failed"}


def run_jobs(
    jobs: Sequence[Job], folder: Path, workers: Workers, watch: Callable[[Schedule, list[str]], None]
) -> Schedule:
    """Do every job that is not done, each after those it needs; the first in the list first.

    A job that fails leaves the others going; what needs it fails with it. One that somebody else interrupts has failed,
    too: only a study that is being stopped has interrupted jobs.

    Args:
        jobs: in the order of their importance.
        folder: the study's folder.
        workers: who does them.
        watch: called a few times a second with the progress and the ids of the running jobs.

    Raises:
        InterruptedRunError: the person stopped the study; the jobs were asked to write checkpoints and have ended.
    """
    progress = Schedule({job.id: job for job in jobs})
    waiting = {job.id: job for job in jobs}
    for job in jobs:
        if is_done(job) and not _goes_on_with(job, waiting):
            progress.ended[job.id] = _kept_state(folder, job)
            progress.before.add(job.id)
            del waiting[job.id]
    with stop_requests(_tell_stopping) as asked:
        told = 0
        while waiting or workers.running():
            if len(asked) > told:
                told = len(asked)
                waiting.clear()
                workers.stop(at_once=told > 1)
            _fail_dependents(waiting, folder, progress)
            for job in _ready(waiting, progress)[: workers.at_once - len(workers.running())]:
                del waiting[job.id]
                workers.start(job)
            watch(progress, workers.running())
            for ended in workers.ended():
                progress.ended[ended] = _final_state(folder, ended, stopping=bool(asked))
        watch(progress, [])
        if asked:
            raise InterruptedRunError(
                f"stopped by {asked[0]}; the running jobs wrote their checkpoints",
                "run the same command again to continue from there",
            )
    return progress


def _goes_on_with(job: Job, waiting: Mapping[str, Job]) -> bool:
    """Whether a job's masks are made of those of a model that is not done; a model outlives its pre-training."""
    return job.run is None and any(need in waiting for need in job.needs)


def _kept_state(folder: Path, job: Job) -> JobState:
    """The state of a job whose result is there; mended where a kill came between the result and its note."""
    state = read_state(folder, job.id)
    if state.state == "done":
        return state
    done = JobState("done", state.seconds, "", state.log, state.started, state.threads)
    write_state(folder, job.id, done)
    return done


def _final_state(folder: Path, job: str, stopping: bool) -> JobState:
    """How a job ended. Anything but done is a failure, or what waits for the job would wait for ever."""
    state = read_state(folder, job)
    if stopping or state.state in {"done", "failed"}:
        return state
    told = f": {state.error}" if state.error else ""
    cure = "the same command continues from its last checkpoint"
    failed = replace(state, state="failed", error=f"{state.state} from outside{told}\n  → {cure}")
    write_state(folder, job, failed)
    return failed


def _ready(waiting: Mapping[str, Job], progress: Schedule) -> list[Job]:
    def met(job: Job) -> bool:
        return all(need in progress.ended and progress.ended[need].state == "done" for need in job.needs)

    return [job for job in waiting.values() if met(job)]


def _fail_dependents(waiting: dict[str, Job], folder: Path, progress: Schedule) -> None:
    failed = progress.failed()
    for job in list(waiting.values()):
        if broken := [need for need in job.needs if need in failed]:
            cause = failed[broken[0]]
            error = f"it needs {broken[0]}, which failed: {cause.error.splitlines()[0]}"
            state = JobState("failed", error=error, log=cause.log, started=time.time())
            write_state(folder, job.id, state)
            progress.ended[job.id] = state
            del waiting[job.id]


def _tell_stopping() -> None:
    say("stopping: running jobs write their checkpoints (Ctrl-C again to end them at once)")
