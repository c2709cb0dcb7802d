"""What a person sees of a running study: one line a running job, and one for all of them."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from frugalseg.engine.progress import console, register_activity, say
from frugalseg.studies.jobs.job import Job, kind_of
from frugalseg.studies.jobs.job_progress import JobProgress, in_words, read_job_progress, seconds_left
from frugalseg.studies.jobs.scheduler import Schedule
from frugalseg.text import pluralize

EVERY_S = 1.0


class ProgressDisplay:
    """Lines that follow the jobs on a terminal; elsewhere, one line for each job that ends.

    Args:
        title: what is being done.
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
        self._told: set[str] = set()
        self._looked, self._how_far = 0.0, title
        self._for_the_log = register_activity(lambda: self._how_far)

    def __enter__(self) -> ProgressDisplay:
        self._for_the_log.__enter__()
        self._bar.start()
        self._all = self._bar.add_task(self._title, total=None, note="")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.stop()
        self._for_the_log.__exit__(None, None, None)

    def __call__(self, schedule: Schedule, running: list[str]) -> None:
        """Show where the schedule stands; at most once a second, and at its end."""
        self._tell_ended(schedule)
        if running and time.perf_counter() - self._looked < EVERY_S:
            return
        self._looked = time.perf_counter()
        for job in [job for job in self._lines if job not in running]:
            self._bar.remove_task(self._lines.pop(job))
        for job in running:
            if job not in self._lines:
                self._lines[job] = self._bar.add_task(f"  {job}", total=1.0, note="")
            how_far = _progress_of(schedule.jobs[job])
            self._bar.update(self._lines[job], completed=how_far.share or 0.0, note=how_far.text)
        summary = self._summary(schedule, running)
        self._bar.update(self._all, total=len(schedule.jobs), completed=len(schedule.ended), note=summary)
        self._how_far = f"{self._title}: {', '.join([summary, *(f'running {job}' for job in running)])}"

    def _tell_ended(self, schedule: Schedule) -> None:
        for job, state in schedule.ended.items():
            if job in self._told or job in schedule.before:
                continue
            self._told.add(job)
            count = f"[{len(schedule.before) + len(self._told)}/{len(schedule.jobs)}]"
            cause = f": {state.error.splitlines()[0]}" if state.error else ""
            say(f"{count} {state.state} after {in_words(state.seconds)}: {job}{cause}")

    def _summary(self, schedule: Schedule, running: list[str]) -> str:
        took: dict[str, list[float]] = {}
        for job, state in schedule.ended.items():
            if state.state == "done":
                took.setdefault(kind_of(job), []).append(state.seconds)
        to_do = [kind_of(job) for job in schedule.jobs if job not in schedule.ended]
        failed = len(schedule.failed())
        text = f"{len(schedule.ended)} of {pluralize(len(schedule.jobs), 'job')}"
        text += f", {failed} failed" if failed else ""
        return text + (f", about {in_words(seconds_left(took, to_do, self._at_once))} left" if running else "")


def _progress_of(job: Job) -> JobProgress:
    return JobProgress(None, "") if job.run is None else read_job_progress(job.run)
