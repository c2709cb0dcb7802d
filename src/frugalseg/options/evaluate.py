"""Options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.options.common import positive


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Compare masks with references, in mm, scan by scan, and write a report."""

    predictions: Path
    """Folder of predicted masks, or one mask."""
    references: Path
    """Folder of reference masks with the same case ids; or one mask, of any name where --predictions is one too."""
    out: Path
    """Folder for cases.csv, cases.json, summary.json and report.html."""
    target: list[str] = field(default_factory=list)
    """What is compared, as for prepare: name=value or name=value,value. Repeat for several organs. By default what the
    predictions' predictions.json says they hold."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    images: Path | None = None
    """Folder of scans for the pictures; by default those that `frugalseg predict` noted down."""
    tolerance: float = 3.0
    """Tolerance in mm of the normalised surface Dice."""
    slicewise: bool = False
    """Also compute the papers' slice-wise figures, under names that say so."""
    report: bool = True
    """Write report.html too; its pictures take longer than the figures."""
    bootstrap: int = 10_000
    """Resamplings of the scans behind a 95% confidence interval of 30 scans or more; of fewer it is a t interval."""
    workers: int | None = None
    """Scans compared at the same time; by default one a thread."""
    threads: int | None = None
    """CPU threads, shared by these scans; by default OMP_NUM_THREADS, or one a core that may be used."""
    seed: int = 0
    """Seed of the resampling."""
    overwrite: bool = False
    """Write into a folder that already holds an evaluation."""

    def __post_init__(self) -> None:
        positive(self, "tolerance", "bootstrap")
