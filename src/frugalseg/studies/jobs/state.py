"""The states of a study's jobs, one small JSON file each, and the lock of the study while it runs."""

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
"""Files of a study's folder; a folder with `SETTINGS`, how the study was last started, is a study."""
STUDY_LOCK_TIMEOUT_S = 1
"""How long to wait for the lock, which `is_study_running` takes for a moment, too."""


def state_path(folder: Path, job: str) -> Path:
    """The file of a job's state."""
    return folder / "jobs" / f"{job}.json"


def read_state(folder: Path, job: str) -> JobState:
    """A job's state; `waiting` if it was never started."""
    path = state_path(folder, job)
    return JobState.read(path) if path.is_file() else JobState()


def write_state(folder: Path, job: str, state: JobState) -> None:
    """Write a job's state."""
    state.write(state_path(folder, job))


def is_done(job: Job) -> bool:
    """Whether a job's result exists; decided from its folders, not from its state file.

    Preparing is always done again: it checks that the scans are unchanged, and reuses what exists.
    """
    if not job.RESULT_IS_KEPT or (job.run is not None and not (job.run / MODEL_FILE).is_file()):
        return False
    return all(is_evaluated(test.evaluate.out) for test in job.tests)


def is_evaluated(folder: Path) -> bool:
    """Whether `folder` holds a complete evaluation."""
    path = folder / SUMMARY
    return path.is_file() and EvaluationState.read(path).complete


@contextmanager
def lock_study(folder: Path) -> Iterator[None]:
    """Hold the study's lock; the operating system releases it when the process ends.

    A folder that was created for the lock and stayed empty is removed afterwards.

    Raises:
        RunError: another process holds it.
        DiskError: the folder cannot be created or written.
    """
    new = not folder.exists()
    lock = FileLock(folder / LOCK, timeout=STUDY_LOCK_TIMEOUT_S)
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
                with suppress(OSError):  # another process may have locked it meanwhile
                    (folder / LOCK).unlink()
                    folder.rmdir()


def is_study_running(folder: Path) -> bool | None:
    """Whether a process is working on the study; None if unknown, because the lock file is read-only."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
