"""What a person sees while waiting, and the lines a command says."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False, quiet=int(os.environ.get("RANK", "0")) > 0)
"""Progress, hints and warnings go to standard error; results a program may read go to standard output.

Of several processes the first speaks for all.
"""


def say(message: str) -> None:
    """One line for the person at the terminal."""
    console.print(message, markup=False, soft_wrap=True)


def show_warnings() -> None:
    """Print warnings as one line each, without the code they came from."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    warnings.showwarning = show


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s", style="cyan")


def progress_bar(title: str, total: int, unit: str, *extra: ProgressColumn) -> tuple[Progress, TaskID]:
    """A bar with count, speed, time passed and time left; `extra` columns stand behind."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        *extra,
        console=console,
    )
    return bar, bar.add_task(title, total=total, unit=unit, note="")


_shown: list[Progress] = []
"""The bar over scans that is on the screen, if one is; a terminal shows only one at a time."""


@contextmanager
def scan_progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar over scans; the yielded function counts one as done."""
    bar, task = progress_bar(title, total, "scans")
    with bar:
        _shown.append(bar)
        try:
            yield lambda: bar.advance(task)
        finally:
            _shown.remove(bar)


@contextmanager
def slice_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over the slices of one scan, under that of the scans; the yielded function counts some as done."""
    if not _shown:
        bar, task = progress_bar(title, total, "slices")
        with bar:
            yield lambda count: bar.advance(task, count)
        return
    bar = _shown[-1]
    task = bar.add_task(f"  {title}", total=total, unit="slices", note="")
    try:
        yield lambda count: bar.advance(task, count)
    finally:
        bar.remove_task(task)


class TrainingBar:
    """Progress of a training: a bar on a terminal, one line a report elsewhere."""

    def __init__(self, steps: int, enabled: bool = True) -> None:
        self._bar, self._task = progress_bar("training", steps, "steps", TextColumn("{task.fields[note]}"))
        self._bar.disable = not (enabled and console.is_terminal)
        self._steps, self._lines, self._noted_at = steps, enabled and not console.is_terminal, 0.0

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, step: int, note: Callable[[], str] | None = None) -> None:
        """Stand at `step`; the note is made at most twice a second."""
        if note is not None and time.perf_counter() - self._noted_at > 0.5:
            self._noted_at = time.perf_counter()
            self._bar.update(self._task, note=note())
        self._bar.update(self._task, completed=step)

    def report(self, record: Mapping[str, object]) -> None:
        """Say a record of metrics.jsonl where there is no bar."""
        if self._lines:
            figures = " ".join(
                f"{name} {value:.4g}" for name, value in record.items() if isinstance(value, float) and name != "epoch"
            )
            say(f"step {record['step']}/{self._steps} {figures}")
