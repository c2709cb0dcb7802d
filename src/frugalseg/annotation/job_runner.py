"""Runs the queued jobs one after the other, each step a process of its own, and follows their progress.

A job that fails, is cancelled or killed changes no mask: its result is taken over at the end, all at once.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from frugalseg.annotation.job_kinds import JOB_KINDS
from frugalseg.annotation.job_table import Job, JobError, JobTable, read_last_lines
from frugalseg.annotation.job_work import JobContext
from frugalseg.annotation.launcher import Launcher
from frugalseg.annotation.messages import JobKind, JobOptions
from frugalseg.errors import FrugalsegError

POLL_S = 0.3
PATIENCE_S = 15.0
"""Time that a cancelled job has to write a checkpoint, before it is killed."""

_COMMAND = "$ frugalseg "
"""Before each command in a log."""
_PROGRESS = re.compile(r"(\d+) of (\d+) ")
_ERROR = re.compile(r"^error: (.*)")
_CURE = re.compile(r"^  → (.*)")


class JobRunner:
    """A queue of jobs and the thread that works on it.

    Args:
        table: of the jobs.
        context: what jobs read and change.
        launcher: starts their commands.
        on_change: called with a job's number when something about it has changed.
    """

    def __init__(
        self, table: JobTable, context: JobContext, launcher: Launcher, on_change: Callable[[int], None]
    ) -> None:
        self.table, self.context, self._launcher, self._on_change = table, context, launcher, on_change
        self._wake, self._ending = threading.Event(), False
        self._cancelled: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, kind: JobKind, case: str | None, options: JobOptions) -> Job:
        """Queue a job; raises `FrugalsegError` where it cannot be done now, and says what is missing."""
        if (running := self.table.unfinished(kind, case)) is not None:
            raise JobError(f"this is running already (job {running.id})", "wait for it, or cancel it")
        JOB_KINDS[kind].check(self.context, case, options)
        job = self.table.add(kind, case, options)
        self._wake.set()
        return job

    def cancel(self, number: int) -> None:
        """End a job that is queued or running; raises `JobError`."""
        job = self.table.get(number)
        if job.state not in ("queued", "running"):
            raise JobError(f"job {number} has ended already", "nothing was changed")
        self._cancelled.add(number)
        if job.state == "queued":
            self._finish(job, "cancelled", "cancelled")

    def resume(self, number: int) -> None:
        """Queue a job again that was interrupted, cancelled or failed: it continues where it stopped."""
        job = self.table.get(number)
        if job.state not in ("interrupted", "cancelled", "failed"):
            raise JobError(f"job {number} is {job.state}", "only an interrupted or failed job can be resumed")
        self._cancelled.discard(number)
        self.table.update(number, state="queued", message="", hint="", ended=None)
        self._on_change(number)
        self._wake.set()

    def stop(self) -> None:
        """Interrupt the running job and end the thread."""
        self._ending = True
        self._wake.set()
        self._thread.join(PATIENCE_S + 5)

    def _run(self) -> None:
        while not self._ending:
            job = self.table.next_queued()
            if job is None:
                self._wake.wait()
                self._wake.clear()
            else:
                self._work(job)

    def _work(self, job: Job) -> None:
        self.table.update(job.id, state="running", started=time.time(), progress=0.0, message="starting")
        self._on_change(job.id)
        try:
            kind = JOB_KINDS[job.kind]
            steps = kind.steps(self.context, job)
            job.folder.mkdir(parents=True, exist_ok=True)
            for number, step in enumerate(steps):
                if not self._run_step(job, step.words, number, len(steps), step.title) and not step.may_fail:
                    self._fail(job)
                    return
                if self._is_stopped(job):
                    return
            message = kind.collect(self.context, job)
            for name in ("given", "masks"):  # the database has them now
                shutil.rmtree(job.folder / name, ignore_errors=True)
        except FrugalsegError as error:
            self._finish(job, "failed", error.problem, error.cure)
        except Exception as error:  # the queue must go on; the log has the traceback
            _append_traceback(job, error)
            self._finish(job, "failed", f"{type(error).__name__}: {error}", f"see {job.log}")
        else:
            self._finish(job, "done", message)

    def _is_stopped(self, job: Job) -> bool:
        """Whether the job was cancelled or the server is ending; its state is then written."""
        if job.id in self._cancelled:
            self._finish(job, "cancelled", "cancelled; resume continues it")
        elif self._ending:
            self._finish(job, "interrupted", "the server ended; resume continues it")
        else:
            return False
        return True

    def _run_step(self, job: Job, words: Sequence[str], number: int, steps: int, title: str) -> bool:
        """Run one command to its end, following its progress; True where it succeeded or was stopped."""
        with job.log.open("ab") as log:
            log.write(f"{_COMMAND}{' '.join(words)}\n".encode())
            log.flush()
            process = self._launcher.start(words, log)
            reported = 0.0
            requested = False
            while process.poll() is None:
                if (job.id in self._cancelled or self._ending) and not requested:
                    requested = True
                    process.interrupt()
                    threading.Timer(PATIENCE_S, process.kill).start()
                time.sleep(POLL_S)
                if time.monotonic() - reported > 1:
                    reported = time.monotonic()
                    self._follow(job, number, steps, title)
        return requested or process.poll() == 0

    def _follow(self, job: Job, number: int, steps: int, title: str) -> None:
        """Read the progress of a step from the last lines that it printed."""
        share, text = read_progress(read_last_lines(job.log), title)
        self.table.update(job.id, progress=(number + share) / steps, message=text)
        self._on_change(job.id)

    def _fail(self, job: Job) -> None:
        lines = read_last_lines(job.log, 40)
        problem = next((found[1] for line in reversed(lines) if (found := _ERROR.match(line))), "")
        cure = next((found[1] for line in reversed(lines) if (found := _CURE.match(line))), f"see {job.log}")
        self._finish(job, "failed", problem or "the process ended with an error", cure)

    def _finish(self, job: Job, state: str, message: str, hint: str = "") -> None:
        progress: dict[str, Any] = {"progress": 1.0} if state == "done" else {}
        self.table.update(job.id, state=state, message=message, hint=hint, ended=time.time(), **progress)
        self._on_change(job.id)


def read_progress(lines: Sequence[str], title: str) -> tuple[float, str]:
    """The share done and its description, of the last line with a progress since the last command began."""
    share, text = 0.0, title
    for line in lines:
        if line.startswith(_COMMAND):
            share, text = 0.0, title
        elif parts := _PROGRESS.findall(line):
            share, text = _nest(parts), line
    return share, text


def _nest(parts: Sequence[tuple[str, str]]) -> float:
    """The share done of nested work: of "3 of 12 scans; 8 of 40 slices", (3 + 8/40) / 12."""
    share = 0.0
    for done, total in reversed(parts):
        share = (int(done) + share) / max(1, int(total))
    return min(1.0, share)


def _append_traceback(job: Job, error: BaseException) -> None:
    import traceback

    job.folder.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
