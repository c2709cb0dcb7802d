"""The display of a running study: a line for each running job, and one for the whole study."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from frugalseg.engine.progress import console, register_activity, say
from frugalseg.studies.jobs.job import Job, runtime_group
from frugalseg.studies.jobs.job_progress import JobProgress, estimate_seconds_left, format_duration, read_job_progress
from frugalseg.studies.jobs.scheduler import Schedule
from frugalseg.text import pluralize

REFRESH_S = 1.0


class ProgressDisplay:
    """On a terminal, progress lines of the running jobs; elsewhere, one line for each job that ends.

    Args:
        title: of the whole, as "study".
        at_once: jobs at a time.
    """

    def __init__(self, title: str, at_once: int) -> None:
        self._title, self._at_once = title, at_once
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._lines: dict[str, TaskID] = {}
        self._printed: set[str] = set()
        self._refreshed, self._progress_text = 0.0, title
        self._log_activity = register_activity(lambda: self._progress_text)

    def __enter__(self) -> ProgressDisplay:
        self._log_activity.__enter__()
        self._bar.start()
        self._all = self._bar.add_task(self._title, total=None, note="")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.stop()
        self._log_activity.__exit__(None, None, None)

    def __call__(self, schedule: Schedule, running: list[str]) -> None:
        """Show the progress of the schedule; at most once a second, and at its end."""
        self._print_ended(schedule)
        if running and time.perf_counter() - self._refreshed < REFRESH_S:
            return
        self._refreshed = time.perf_counter()
        for job in [job for job in self._lines if job not in running]:
            self._bar.remove_task(self._lines.pop(job))
        for job in running:
            if job not in self._lines:
                self._lines[job] = self._bar.add_task(f"  {job}", total=1.0, note="")
            progress = _read_progress(schedule.jobs[job])
            self._bar.update(self._lines[job], completed=progress.share or 0.0, note=progress.text)
        summary = self._summarise(schedule, running)
        self._bar.update(self._all, total=len(schedule.jobs), completed=len(schedule.ended), note=summary)
        self._progress_text = f"{self._title}: {', '.join([summary, *(f'running {job}' for job in running)])}"

    def _print_ended(self, schedule: Schedule) -> None:
        for job, state in schedule.ended.items():
            if job in self._printed or job in schedule.done_before:
                continue
            self._printed.add(job)
            count = f"[{len(schedule.done_before) + len(self._printed)}/{len(schedule.jobs)}]"
            cause = f": {state.error.splitlines()[0]}" if state.error else ""
            say(f"{count} {state.state} after {format_duration(state.seconds)}: {job}{cause}")

    def _summarise(self, schedule: Schedule, running: list[str]) -> str:
        took: dict[str, list[float]] = {}
        for job, state in schedule.ended.items():
            if state.state == "done":
                took.setdefault(runtime_group(job), []).append(state.seconds)
        to_do = [runtime_group(job) for job in schedule.jobs if job not in schedule.ended]
        failed = len(schedule.failed_jobs())
        text = f"{len(schedule.ended)} of {pluralize(len(schedule.jobs), 'job')}"
        text += f", {failed} failed" if failed else ""
        return text + (
            f", about {format_duration(estimate_seconds_left(took, to_do, self._at_once))} left" if running else ""
        )


def _read_progress(job: Job) -> JobProgress:
    return JobProgress(None, "") if job.run is None else read_job_progress(job.run)
