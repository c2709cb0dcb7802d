"""Options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import check_positive


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Compare masks with references, scan by scan and in mm, and write a report."""

    predictions: Path
    """Folder of predicted masks, or one mask."""
    references: Path
    """Folder of reference masks with the same case ids; or one mask, with any name if --predictions is a single
    mask."""
    out: Path
    """Folder for cases.csv, cases.json, summary.json and report.html, and the tables of --groups."""
    target: list[str] = field(default_factory=list)
    """What to compare, as for `prepare`: name=value or name=value,value; repeat for several organs. By default what
    predictions.json beside the masks states."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    groups: Path | None = None
    """CSV table of groups of patients to compare, such as scanner, sex or site: the first column holds the case id or
    the patient, each other column a group."""
    patient_pattern: str = "(.+)"
    """With --groups: regular expression whose first group in the case id is the patient, if patients have several
    scans; they are averaged first."""
    images: Path | None = None
    """Folder of scans for the report's overlays; by default those recorded by `frugalseg predict`."""
    tolerance_mm: float = 3.0
    """Tolerance in mm of the normalised surface Dice."""
    lesions: bool = False
    """Also count lesions: connected parts of each target, found if one of the prediction overlaps them by more than
    --lesion-iou. Gives F1, sensitivity, precision and false positives per scan."""
    lesion_iou: float = 0.5
    """IoU above which a predicted lesion is one of the reference; 0: any overlap. Above 0.5 each can match one only."""
    slicewise: bool = False
    """Also compute the slice-wise metrics of the papers, under names that say so."""
    report: bool = True
    """Also write report.html; its overlays take longer than the metrics."""
    bootstrap: int = 10_000
    """Number of bootstrap resamples of a 95% confidence interval over 30 scans or more; over fewer it is a t
    interval."""
    workers: int | None = None
    """Number of scans compared in parallel; by default one per thread."""
    threads: int | None = None
    """Number of CPU threads, shared by these scans; by default OMP_NUM_THREADS, otherwise one per available core."""
    ray: str | None = None
    """Compare the scans as Ray tasks of one thread each, --workers at a time on the whole cluster: local, auto (the
    cluster running here), or the address of a cluster. Its machines see both folders of masks at the same paths; --out
    need not be shared, since this machine writes the results."""
    seed: int = 0
    """Random seed of the bootstrap."""
    overwrite: bool = False
    """Write into a folder that already holds an evaluation."""

    def __post_init__(self) -> None:
        check_positive(self, "tolerance_mm", "bootstrap")
        if not 0 <= self.lesion_iou < 1:
            raise OptionError(f"--lesion-iou {self.lesion_iou:g} is not in 0…1", "give 0 or more, and less than 1")
