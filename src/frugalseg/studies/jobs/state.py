"""How far a study's jobs are: one small JSON file a job, and one lock that tells whether someone is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from frugalseg.engine.files import MODEL_FILE, remove_orphans
from frugalseg.errors import RunError, disk_errors
from frugalseg.evaluation.results import SUMMARY
from frugalseg.records.study import JobState
from frugalseg.records.summary import EvaluationState
from frugalseg.studies.jobs.job import Job

GRID, SETTINGS, LOCK = "grid.json", "study.json", ".lock"
"""Files of a study's folder; settings make it one: how it was last started."""
PATIENCE_S = 1
"""How long to wait for the lock: `someone_at_work` takes it too, for a moment."""


def state_path(folder: Path, job: str) -> Path:
    """Where a job's state is kept."""
    return folder / "jobs" / f"{job}.json"


def read_state(folder: Path, job: str) -> JobState:
    """A job's state; `waiting` where it was never tried."""
    path = state_path(folder, job)
    return JobState.read(path) if path.is_file() else JobState()


def write_state(folder: Path, job: str, state: JobState) -> None:
    """Keep a job's state."""
    state.write(state_path(folder, job))


def is_done(job: Job) -> bool:
    """Whether a job's result is there: what counts is the folder, not what was noted about it.

    Preparing is always done again: it finds what is there, and that the scans are still the same.
    """
    if not job.LASTS or (job.run is not None and not (job.run / MODEL_FILE).is_file()):
        return False
    return all(is_evaluated(test.evaluate.out) for test in job.tests)


def is_evaluated(folder: Path) -> bool:
    """Whether `folder` holds an evaluation in which no scan is missing."""
    path = folder / SUMMARY
    return path.is_file() and EvaluationState.read(path).complete


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold the study's lock; the operating system releases it when the process ends.

    A folder that was made for it and has stayed empty is removed afterwards.

    Raises:
        RunError: another process holds it.
        DiskError: the folder cannot be made or written.
    """
    new = not folder.exists()
    lock = FileLock(folder / LOCK, timeout=PATIENCE_S)
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
    except Timeout:
        raise RunError(
            f"another process is working on the study in {folder}",
            "wait for it, or stop it; `frugalseg study status` shows its progress",
        ) from None
    with held:
        try:
            remove_orphans(folder)
            yield
        finally:
            if new and [entry.name for entry in folder.iterdir()] == [LOCK]:
                with suppress(OSError):  # a process that came meanwhile keeps it
                    (folder / LOCK).unlink()
                    folder.rmdir()


def someone_at_work(folder: Path) -> bool | None:
    """Whether a process is working on the study; None where that cannot be told, as the lock may only be read."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
