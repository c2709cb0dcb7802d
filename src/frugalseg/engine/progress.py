"""Progress bars and messages of a command.

On a terminal, work is shown by a progress bar. In a log file it has one line at its end, and a line about its progress
at least every half minute.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from frugalseg.text import pluralize

console = Console(
    stderr=True,
    highlight=False,
    quiet=int(os.environ.get("RANK", "0")) > 0,
    # A log file gets no colours and no bars, whatever the environment says: FORCE_COLOR is for terminals.
    force_terminal=None if sys.stderr is not None and sys.stderr.isatty() else False,
)
"""Progress, hints and warnings go to standard error, results for programs to standard output.

Of several processes only the first prints.
"""

SILENCE_S = float(os.environ.get("FRUGALSEG_PROGRESS_SECONDS", "25"))
"""Longest time without a line in a log file, seconds; a program that shows the progress sets a shorter one."""
SETTLED_S, SETTLED_ITEMS, PATIENCE_S = 2.0, 3, 10.0
"""A speed is shown after this many seconds and items, or after one item and this longer time: the first items warm up
caches and are not representative."""

_printed_at = time.monotonic()
_activities: list[Callable[[], str]] = []
"""One function per running activity, which returns its progress as text; the outermost first."""
Verbosity = Literal["quiet", "normal", "verbose"]
_verbosity: list[Verbosity] = ["normal"]


def set_verbosity(verbosity: Verbosity) -> None:
    """How much this process prints; warnings are always printed."""
    _verbosity[0] = verbosity


def say(message: str) -> None:
    """Print one line for the user, unless --quiet was given."""
    if _verbosity[0] != "quiet":
        _print(message)


def is_verbose() -> bool:
    """Whether --verbose was given."""
    return _verbosity[0] == "verbose"


def tell(message: str) -> None:
    """Print one line for a user who gave --verbose."""
    if is_verbose():
        _print(message)


def show_warnings() -> None:
    """Print warnings as one line each, without source code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _print(f"warning: {message}", style="yellow")

    warnings.showwarning = show


_collected: list[list[str]] = []
"""Where messages go that are not printed here, the innermost last."""


@contextmanager
def collect_messages() -> Iterator[list[str]]:
    """While inside, `say` adds to this list instead of printing: another process prints it."""
    _collected.append([])
    try:
        yield _collected[-1]
    finally:
        _collected.pop()


def _print(message: str, style: str | None = None) -> None:
    global _printed_at
    if _collected:
        _collected[-1].append(message)
        return
    console.print(message, style=style, markup=False, soft_wrap=True)
    _printed_at = time.monotonic()


def format_duration(seconds: float) -> str:
    """Seconds as minutes or hours: 0:07, 12:40, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Work:
    """A piece of work and its progress.

    Attributes:
        title: what is being done.
        total, unit: number of items, and what they are, in the plural.
        completed: number of items done.
        completed_before: items that an earlier run had done.
        note: additional text.
        indent: before the title of a bar below another one.
        begun: start, by the monotonic clock.
        show: called after every change.
    """

    title: str
    total: int
    unit: str
    completed: int = 0
    completed_before: int = 0
    note: str = ""
    indent: str = ""
    begun: float = field(default_factory=time.monotonic)
    show: Callable[[], None] = lambda: None

    def advance(self, count: int = 1) -> None:
        """Add `count` items to those done."""
        self.update(self.completed + count)

    def update(self, completed: int) -> None:
        """Set the number of items done."""
        self.completed = completed
        self.show()

    def resume_from(self, completed: int) -> None:
        """Set the number of items done by an earlier run, which does not count for the speed."""
        self.completed_before = completed
        self.update(completed)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    @property
    def per_second(self) -> float | None:
        """Mean speed in items per second; None while it is too early to tell."""
        done = self.completed - self.completed_before
        early = done < 1 or (done < SETTLED_ITEMS and self.seconds < PATIENCE_S)
        return None if early or self.seconds < SETTLED_S else done / self.seconds

    @property
    def speed(self) -> str:
        """Mean speed as text; empty while it is too early to tell."""
        if (speed := self.per_second) is None:
            return ""
        return f"{speed:.1f} {self.unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{self.unit.removesuffix('s')}"

    @property
    def left(self) -> str:
        """Estimated time left, as text."""
        speed = self.per_second
        return "" if speed is None else format_duration(max(0, self.total - self.completed) / speed)

    def format_line(self) -> str:
        """Progress as one line of a log file."""
        parts = [f"{self.completed} of {self.total} {self.unit}", format_duration(self.seconds), self.speed]
        parts += [f"about {self.left} left" if self.left else "", self.note]
        return f"{self.title}: {', '.join(filter(None, parts))}"


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Work]:
    """Show the progress of a piece of work; inside another one, below it.

    Args:
        title: what is being done.
        total, unit: number of items, and what they are, in the plural.
    """
    work = Work(title, total, unit)
    within = bool(_activities)
    with register_activity(work.format_line), heartbeat(title):
        if console.is_interactive and _verbosity[0] != "quiet":
            with _show_bar(work):
                yield work
            return
        yield work
        if not within:
            say(f"{title}: {pluralize(work.completed, unit.removesuffix('s'))} in {format_duration(work.seconds)}")


@contextmanager
def register_activity(line: Callable[[], str]) -> Iterator[None]:
    """While inside, `line` returns the progress for a log file."""
    _activities.append(line)
    try:
        yield
    finally:
        _activities.remove(line)


_heartbeats: list[str] = []
"""The command whose progress a thread prints, if there is one."""


@contextmanager
def heartbeat(title: str) -> Iterator[None]:
    """While inside, print a line at least every half minute, unless there is a progress bar."""
    if console.is_interactive or _heartbeats:
        yield
        return
    ended = threading.Event()
    _heartbeats.append(title)
    thread = threading.Thread(target=_print_heartbeats, args=(title, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _heartbeats.remove(title)


@contextmanager
def no_heartbeat() -> Iterator[None]:
    """While inside, no lines about the passing of time: a server runs until it is ended."""
    _silenced.append(True)
    try:
        yield
    finally:
        _silenced.pop()


_silenced: list[bool] = []


def _print_heartbeats(title: str, ended: threading.Event) -> None:
    begun = time.monotonic()
    while not ended.wait(min(1.0, SILENCE_S / 5)):
        now = time.monotonic()
        if now - max(_printed_at, begun) >= SILENCE_S and not _silenced:
            say(
                "; ".join(line() for line in list(_activities))
                or f"{title}: running for {format_duration(now - begun)}"
            )


class _WorkColumn(ProgressColumn):
    """A column with a text about `Work`."""

    def __init__(self, format_work: Callable[[Work], str], style: str | None = "cyan") -> None:
        super().__init__()
        self._format, self._style = format_work, style or ""

    def render(self, task: Task) -> Text:
        return Text(self._format(task.fields["work"]), style=self._style, no_wrap=True)


class _Bars(Progress):
    """Progress bars with their notes below, so that 80 columns are enough."""

    def __init__(self) -> None:
        super().__init__(
            _WorkColumn(lambda work: work.indent + work.title, style=None),
            BarColumn(bar_width=18),
            _WorkColumn(lambda work: f"{work.completed}/{work.total}", style="green"),
            _WorkColumn(lambda work: work.speed or work.unit),
            _WorkColumn(lambda work: format_duration(work.seconds)),
            _WorkColumn(lambda work: f"ETA {work.left}" if work.left else ""),
            console=console,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if note := task.fields["work"].note:
                yield Text(f"  {note}", no_wrap=True, overflow="ellipsis")


_screen: list[_Bars] = []
"""The progress bars on the screen, if any; a terminal shows only one live display at a time."""


@contextmanager
def _show_bar(work: Work) -> Iterator[None]:
    if _screen:
        screen, work.indent = _screen[0], "  "
        task = _add_bar(work, screen)
        try:
            yield
        finally:
            screen.remove_task(task)
        return
    with _Bars() as screen:
        _screen.append(screen)
        _add_bar(work, screen)
        try:
            yield
        finally:
            _screen.remove(screen)


def _add_bar(work: Work, screen: _Bars) -> TaskID:
    task = screen.add_task(work.title, total=work.total, work=work)
    work.show = lambda: screen.update(task, completed=work.completed)
    return task
