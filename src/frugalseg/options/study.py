"""Options of `study`, `study status` and `report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.options.common import check_positive


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Train and test every method of a plan at every label budget, and write one report."""

    plan: Path
    """The plan: a YAML file, or the name of a plan of the package, such as smoke (docs/reference/plans.md lists them).
    May be given as first argument without the flag."""
    out: Path
    """Folder for stores, runs, masks, tables and the report. The same command continues an interrupted study."""
    jobs: int | None = None
    """Number of jobs run in parallel; by default 1, and on a Ray cluster as many as fit."""
    threads: int | None = None
    """Number of CPU threads of each job; by default OMP_NUM_THREADS, otherwise an equal share of this machine's cores,
    or with Ray of its largest machine. Results are reproducible with the same number."""
    ray: str | None = None
    """Run the jobs as Ray tasks: local, auto (the cluster running here), or the address of a cluster."""
    study: str | None = None
    """Name of the study, if the plan holds several (under studies:)."""
    only: list[str] = field(default_factory=list)
    """Run only a part of the grid: method=…, backbone=…, budget=…, draw=… or seed=…; repeat a key for several
    values."""

    def __post_init__(self) -> None:
        check_positive(self, "jobs", "threads")


@dataclass(frozen=True, kw_only=True)
class StudyStatusOptions:
    """Show a study's progress: counts by state and the estimated time left."""

    folder: Path
    """The --out of the study; may be given as first argument without the flag."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Rewrite the tables and the report of a study."""

    folder: Path
    """The --out of the study; may be given as first argument without the flag."""
