"""What all kinds of jobs share: what they read and change, and how masks are taken over.

Each kind writes what it needs into the job's folder first (masks of the slices that a person outlined or reviewed), so
that drawing may go on meanwhile; commands of frugalseg do the rest. Outlined and reviewed slices are never changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugalseg.annotation.cases import CaseTable
from frugalseg.annotation.job_table import Job, JobError
from frugalseg.annotation.labels import LabelTable
from frugalseg.annotation.messages import JobOptions
from frugalseg.annotation.place import Place
from frugalseg.annotation.saving import Saver
from frugalseg.annotation.scans import Scans
from frugalseg.annotation.slices import SliceState, SliceTable, Source, Stroke
from frugalseg.imaging.find import find_scans
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.write import write_mask
from frugalseg.options import AnnotateOptions


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Attributes:
        words: the command line after `frugalseg`.
        title: what it does, for the page.
        may_fail: whether the job goes on where it fails, as when some scans cannot be read.
    """

    words: list[str]
    title: str
    may_fail: bool = False


@dataclass(frozen=True)
class JobContext:
    """What jobs read and change.

    Attributes:
        options: of the session.
        images: folder of the scans.
        on_masks: called with a case and the slices that a job has changed.
    """

    options: AnnotateOptions
    images: Path
    place: Place
    scans: Scans
    cases: CaseTable
    slices: SliceTable
    labels: LabelTable
    saver: Saver
    on_masks: Callable[[str, list[int]], None]

    def states(self, case: str) -> list[SliceState]:
        """Every slice of a case."""
        return self.slices.of_case(case, self.scans.open(case).shape[2])

    def write_masks(self, case: str, folder: Path, sources: Iterable[Source]) -> Path:
        """Write the mask of a case with only the slices of these sources."""
        display = self.scans.open(case)
        path = folder / self.place.mask(case).name
        write_mask(display.mask_volume(self.slices.masks(case, display.pixels, sources)), path)
        return path

    def common_words(self) -> list[str]:
        """Options of every command: where to compute."""
        threads = [] if self.options.threads is None else ["--threads", str(self.options.threads)]
        return ["--device", self.options.device, *threads]

    def image_words(self) -> list[str]:
        """Options that name the same scans as those of the page."""
        return ["--images", str(self.images), *(["--series", *self.options.series] if self.options.series else [])]

    def target_words(self, values: Iterable[int]) -> list[str]:
        """--target for these label values."""
        names = {label.value: label.name for label in self.labels.all()}
        chosen = [f"{names[value]}={value}" for value in sorted(values) if value in names]
        return ["--target", *chosen] if chosen else []

    def take_over(
        self, case: str, mask: Path, strokes: Callable[[int, np.ndarray], Stroke], over: Iterable[Source | None]
    ) -> list[int]:
        """Take over a mask that a command has written, in the slices whose source is in `over`.

        Args:
            case: the case.
            mask: its file, on the grid of the scan.
            strokes: number and mask of a slice → the change.
            over: sources of the slices to replace.
        """
        display = self.scans.open(case)
        volume = read_labels_on(mask, display.volume, case)
        stack = display.mask_slices(volume).astype(np.uint8)
        self.cases.opened(case, display)
        changed = self.slices.fill(case, ((z, strokes(z, plane)) for z, plane in enumerate(stack)), over)
        if changed:
            self.saver.drawn()
            self.on_masks(case, changed)
        return changed


class JobWork(ABC):
    """A kind of job."""

    @abstractmethod
    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """Raise `FrugalsegError` where the job cannot be done now."""

    @abstractmethod
    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """Write the input, and return the commands; called again when a job is resumed."""

    @abstractmethod
    def collect(self, context: JobContext, job: Job) -> str:
        """Take over the result; returns what was done, in words."""


def require_case(case: str | None) -> str:
    """The case of a job that works on one scan; raises `JobError` where there is none."""
    if case is None:
        raise JobError("this job needs a scan", "open one first")
    return case


def keep_input(job: Job, name: str, write: Callable[[Path], Path]) -> Path:
    """Write the input of a job once: a resumed job must find the same."""
    folder = job.folder / name
    kept = next(iter(folder.glob("[!.]*.nii.gz")), None) if folder.is_dir() else None
    return kept or write(folder)


def find_single_mask(folder: Path) -> Path:
    """The one mask that a command has written."""
    return next(iter(find_scans(folder).values()))
