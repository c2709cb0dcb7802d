"""Options of `study`, `study status` and `report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.options.common import positive


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Train and test every method of a plan at every label budget, and write one report."""

    plan: Path
    """The plan, a YAML file; the first argument may be it, without the flag. The folder plans/ holds some."""
    out: Path
    """Folder for everything: stores, runs, masks, tables, report. The same command goes on where it stopped."""
    at_once: int | None = None
    """Jobs done at the same time; by default 1, and on a Ray cluster as many as fit."""
    threads: int | None = None
    """CPU threads of each job; by default OMP_NUM_THREADS, or this machine's usable cores shared out, or with Ray those
    of its largest machine. The same number gives the same figures."""
    ray: str | None = None
    """Do the jobs as tasks of Ray: local, auto (the cluster that runs here), or a cluster's address."""
    study: str | None = None
    """Which study of the plan, where its file holds several (under studies:)."""
    only: list[str] = field(default_factory=list)
    """Only a part of the grid: method=…, backbone=…, budget=…, draw=… or seed=…; a key given twice takes both."""

    def __post_init__(self) -> None:
        positive(self, "at_once", "threads")


@dataclass(frozen=True, kw_only=True)
class StudyStatusOptions:
    """Tell how far a study is: done, running, failed, waiting, and how long it will take."""

    folder: Path
    """The study's --out; the first argument may be it, without the flag."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a study's tables and report again."""

    folder: Path
    """The study's --out; the first argument may be it, without the flag."""
