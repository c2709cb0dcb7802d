"""Timing and printing, shared by the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def show(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Print rows of (what, measured, target)."""
    table = Table(title=title, title_justify="left")
    for column in ("", "measured", "target"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def timed(work: Callable[[], object], repeats: int = 7, warm_up: int = 1) -> list[float]:
    """Seconds of each of `repeats` runs of `work`, after `warm_up` runs that are not timed."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return times


def median_seconds(work: Callable[[], object], repeats: int = 7, warm_up: int = 1) -> float:
    """Median of `timed`."""
    return statistics.median(timed(work, repeats, warm_up))
