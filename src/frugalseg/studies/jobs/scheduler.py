"""Running the jobs of a study in order, several at a time."""

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
    """The progress of a schedule.

    Attributes:
        jobs: all jobs, by id.
        ended: id → final state of the jobs that have ended.
        done_before: ids of the jobs that were done before this run.
    """

    jobs: Mapping[str, Job]
    ended: dict[str, JobState] = field(default_factory=dict)
    done_before: set[str] = field(default_factory=set)

    def failed_jobs(self) -> dict[str, JobState]:
        """Id → state of the jobs that failed."""
        return {job: state for job, state in self.ended.items() if state.state == "failed"}


def run_jobs(
    jobs: Sequence[Job], folder: Path, workers: Workers, watch: Callable[[Schedule, list[str]], None]
) -> Schedule:
    """Run every job that is not done, in the given order, each after the jobs it needs.

    If a job fails, the jobs that need it fail, too; all others continue. A job that was interrupted from outside counts
    as failed: only a study that is being stopped has interrupted jobs.

    Args:
        jobs: in order of priority.
        folder: the study's folder.
        workers: run the jobs.
        watch: called a few times a second with the progress and the ids of the running jobs.

    Raises:
        InterruptedRunError: the study was stopped; the jobs wrote checkpoints and have ended.
    """
    progress = Schedule({job.id: job for job in jobs})
    waiting = {job.id: job for job in jobs}
    for job in jobs:
        if is_done(job) and not _needs_unfinished_model(job, waiting):
            progress.ended[job.id] = _restore_done_state(folder, job)
            progress.done_before.add(job.id)
            del waiting[job.id]
    with stop_requests(_announce_stop) as requests:
        handled = 0
        while waiting or workers.list_running():
            if len(requests) > handled:
                handled = len(requests)
                waiting.clear()
                workers.stop(at_once=handled > 1)
            _fail_dependents(waiting, folder, progress)
            for job in _list_ready(waiting, progress)[: workers.at_once - len(workers.list_running())]:
                del waiting[job.id]
                workers.start(job)
            watch(progress, workers.list_running())
            for ended in workers.collect_ended():
                progress.ended[ended] = _record_final_state(folder, ended, stopping=bool(requests))
        watch(progress, [])
        if requests:
            raise InterruptedRunError(
                f"stopped by {requests[0]}; the running jobs wrote their checkpoints",
                "run the same command again to continue from there",
            )
    return progress


def _needs_unfinished_model(job: Job, waiting: Mapping[str, Job]) -> bool:
    """Whether a job processes the masks of a model that is not done (a finished model needs no pre-training)."""
    return job.run is None and any(need in waiting for need in job.needs)


def _restore_done_state(folder: Path, job: Job) -> JobState:
    """The state of a job whose result exists; rewritten if a kill came between the result and its state."""
    state = read_state(folder, job.id)
    if state.state == "done":
        return state
    done = JobState("done", state.seconds, "", state.log, state.started, state.threads)
    write_state(folder, job.id, done)
    return done


def _record_final_state(folder: Path, job: str, stopping: bool) -> JobState:
    """The final state of a job. All but `done` count as failed, or the jobs that need it would wait forever."""
    state = read_state(folder, job)
    if stopping or state.state in {"done", "failed"}:
        return state
    reason = f": {state.error}" if state.error else ""
    cure = "the same command continues from its last checkpoint"
    failed = replace(state, state="failed", error=f"{state.state} from outside{reason}\n  → {cure}")
    write_state(folder, job, failed)
    return failed


def _list_ready(waiting: Mapping[str, Job], progress: Schedule) -> list[Job]:
    def is_ready(job: Job) -> bool:
        return all(need in progress.ended and progress.ended[need].state == "done" for need in job.needs)

    return [job for job in waiting.values() if is_ready(job)]


def _fail_dependents(waiting: dict[str, Job], folder: Path, progress: Schedule) -> None:
    failed = progress.failed_jobs()
    for job in list(waiting.values()):
        if broken := [need for need in job.needs if need in failed]:
            cause = failed[broken[0]]
            error = f"it needs {broken[0]}, which failed: {cause.error.splitlines()[0]}"
            state = JobState("failed", error=error, log=cause.log, started=time.time())
            write_state(folder, job.id, state)
            progress.ended[job.id] = state
            del waiting[job.id]


def _announce_stop() -> None:
    say("stopping: running jobs write their checkpoints (press Ctrl-C again to end them immediately)")
