"""What a person sees while waiting, and the lines a command says.

On a terminal counted work has a bar. In a log file it has a line at its end, and whatever a command does, it has one
every half minute that shows its progress.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from frugalseg.text import pluralize

console = Console(stderr=True, highlight=False, quiet=int(os.environ.get("RANK", "0")) > 0)
"""Progress, hints and warnings go to standard error; results a program may read go to standard output.

Of several processes the first speaks for all.
"""

SILENCE_S = 25.0
"""Longest silence in a log file."""
SETTLED_S, SETTLED_ITEMS, PATIENCE_S = 2.0, 3, 10.0
"""A speed is shown after so many seconds and so many items, or one item where they take long: the first ones of a bar
warm up caches, and say nothing of the others."""

_printed_at = time.monotonic()
_activities: list[Callable[[], str]] = []
"""What is being done, in words; the outermost first."""


def say(message: str) -> None:
    """One line for the person at the terminal."""
    _print(message)


def show_warnings() -> None:
    """Print warnings as one line each, without the code they came from."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _print(f"warning: {message}", style="yellow")

    warnings.showwarning = show


def _print(message: str, style: str | None = None) -> None:
    global _printed_at
    console.print(message, style=style, markup=False, soft_wrap=True)
    _printed_at = time.monotonic()


def format_duration(seconds: float) -> str:
    """Seconds as a clock shows them: 0:07, 12:40, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Work:
    """A piece of work that is counted.

    Attributes:
        title: what is being done.
        total, unit: how much there is of what, in the plural.
        completed: how much is done.
        completed_before: how much was done before it began.
        note: what else there is to tell.
        indent: before the title of a bar below another one.
        begun: when, by the monotonic clock.
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
        """So many more are done."""
        self.update(self.completed + count)

    def update(self, completed: int) -> None:
        """So many are done."""
        self.completed = completed
        self.show()

    def resume_from(self, completed: int) -> None:
        """So many were done in an earlier run, which tells nothing of the speed of this one."""
        self.completed_before = completed
        self.update(completed)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begun

    @property
    def per_second(self) -> float | None:
        """The mean speed; None where it is too early to tell."""
        done = self.completed - self.completed_before
        early = done < 1 or (done < SETTLED_ITEMS and self.seconds < PATIENCE_S)
        return None if early or self.seconds < SETTLED_S else done / self.seconds

    @property
    def speed(self) -> str:
        """The same in words."""
        if (speed := self.per_second) is None:
            return ""
        return f"{speed:.1f} {self.unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{self.unit.removesuffix('s')}"

    @property
    def left(self) -> str:
        """Time left, in words."""
        speed = self.per_second
        return "" if speed is None else format_duration(max(0, self.total - self.completed) / speed)

    def format_line(self) -> str:
        """How far it is, for a log file."""
        parts = [f"{self.completed} of {self.total} {self.unit}", format_duration(self.seconds), self.speed]
        parts += [f"about {self.left} left" if self.left else "", self.note]
        return f"{self.title}: {', '.join(filter(None, parts))}"


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Work]:
    """Show how far a piece of work is; within another one, below it.

    Args:
        title: what is being done.
        total, unit: how much there is of what, in the plural.
    """
    work = Work(title, total, unit)
    within = bool(_activities)
    with register_activity(work.format_line), heartbeat(title):
        if console.is_interactive:
            with _show_bar(work):
                yield work
            return
        yield work
        if not within:
            say(f"{title}: {pluralize(work.completed, unit.removesuffix('s'))} in {format_duration(work.seconds)}")


@contextmanager
def register_activity(line: Callable[[], str]) -> Iterator[None]:
    """While inside, `line` tells a log file how far things are."""
    _activities.append(line)
    try:
        yield
    finally:
        _activities.remove(line)


_heartbeats: list[str] = []
"""The command that a thread speaks for, if one does."""


@contextmanager
def heartbeat(title: str) -> Iterator[None]:
    """While inside, a log file hears of it at least every half minute."""
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


def _print_heartbeats(title: str, ended: threading.Event) -> None:
    begun = time.monotonic()
    while not ended.wait(min(1.0, SILENCE_S / 5)):
        now = time.monotonic()
        if now - max(_printed_at, begun) >= SILENCE_S:
            say(
                "; ".join(line() for line in list(_activities))
                or f"{title}: running for {format_duration(now - begun)}"
            )


class _WorkColumn(ProgressColumn):
    """A column of what `Work` says of itself."""

    def __init__(self, format_work: Callable[[Work], str], style: str | None = "cyan") -> None:
        super().__init__()
        self._format, self._style = format_work, style or ""

    def render(self, task: Task) -> Text:
        return Text(self._format(task.fields["work"]), style=self._style, no_wrap=True)


class _Bars(Progress):
    """Bars; what else there is to tell stands below, so that 80 columns are enough."""

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
"""The bars on the screen, if there are some; a terminal shows only one live display at a time."""


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
