"""A session: the scans, the state and the threads that the server works with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from frugalseg.annotation.cases import CaseTable
from frugalseg.annotation.database import Database
from frugalseg.annotation.display import Display
from frugalseg.annotation.events import Events
from frugalseg.annotation.job_runner import JobRunner
from frugalseg.annotation.job_table import JobTable
from frugalseg.annotation.job_work import JobContext
from frugalseg.annotation.labels import LabelTable
from frugalseg.annotation.launcher import Launcher, LocalLauncher
from frugalseg.annotation.place import Place
from frugalseg.annotation.prompts import Prompter
from frugalseg.annotation.saving import Saver
from frugalseg.annotation.scans import Scans
from frugalseg.annotation.slices import SliceTable
from frugalseg.errors import FrugalsegError, ScanError
from frugalseg.options import AnnotateOptions

PRESENT_S = 90.0
"""A tab counts as present at a case for so long after its last request."""


class Session:
    """Everything that requests share.

    Args:
        options: of the command.
        images: where the scans were found.
        paths: case id → scan.
        references: case id → reference mask; empty without --references.
        place: the folder of annotations, which this process has locked.
        annotator: who outlines.
        launcher: starts the commands of jobs.
    """

    def __init__(
        self,
        options: AnnotateOptions,
        images: Path,
        paths: Mapping[str, Path],
        references: Mapping[str, Path],
        place: Place,
        annotator: str,
        launcher: Launcher | None = None,
    ) -> None:
        self.options, self.place, self.annotator, self.references = options, place, annotator, dict(references)
        self.images = images
        self.database = Database(place.state)
        self.scans = Scans(images, paths, place.scans, int(options.cache_gb * 1e9))
        self.cases = CaseTable(self.database)
        self.slices = SliceTable(self.database)
        self.labels = LabelTable(self.database, self.cases, self.slices)
        self.events = Events()
        self.saver = Saver(place, self.scans, self.cases, self.slices, self.labels, self.state_changed)
        self.prompter = Prompter(options.model, options.device, options.threads, self.scans, place.embeddings)
        self.jobs = JobTable(self.database, place.jobs)
        launcher = launcher or LocalLauncher()
        computing = replace(options, threads=launcher.threads or options.threads)
        self.context = JobContext(
            *(
                computing,
                images,
                place,
                self.scans,
                self.cases,
                self.slices,
                self.labels,
                self.saver,
                self.masks_changed,
            )
        )
        self.runner = JobRunner(self.jobs, self.context, launcher, self.job_changed)
        self._seen: dict[tuple[str, str], float] = {}
        self._seen_lock = threading.Lock()
        self._next: str | None = None
        self.cases.ensure(paths)

    def start(self) -> None:
        """Start the threads."""
        self.jobs.interrupt_unfinished()
        self.saver.start()
        self.runner.start()

    def stop(self) -> None:
        """Interrupt the running job, write all masks, and close everything; raises `DiskError`."""
        self.events.close()
        self.runner.stop()
        self.prompter.close()
        try:
            self.saver.stop()
        finally:
            self.database.close()

    def open(self, case: str) -> Display:
        """Open a case; a scan that cannot be read is noted in the list of cases.

        Raises:
            UnknownCaseError, ScanError, DiskError: see `Scans.open`.
        """
        try:
            display = self.scans.open(case)
        except ScanError as error:
            self.cases.failed(case, error.problem)
            self.state_changed()
            raise
        if self.cases.opened(case, display):
            self.state_changed()
        return display

    def prefetch(self, case: str) -> None:
        """Unpack a scan that a person is likely to open next, in the background; the last one asked for counts."""
        waiting, self._next = self._next, case
        if waiting is None:
            threading.Thread(target=self._open_next, name="prefetch", daemon=True).start()

    def prefetch_after(self, case: str) -> None:
        """Unpack the scan that follows in the list."""
        order = sorted(self.cases.summaries(self.scans.paths), key=lambda summary: summary.rank)
        names = [summary.id for summary in order if summary.state != "unreadable"]
        if case in names[:-1]:
            self.prefetch(names[names.index(case) + 1])

    def _open_next(self) -> None:
        while (case := self._next) is not None:
            with suppress(FrugalsegError):  # opening it later says what is wrong
                self.open(case)
            if self._next == case:
                self._next = None

    def present(self, case: str, client: str) -> None:
        """Note that a tab has a case on screen."""
        if client:
            with self._seen_lock:
                for other in [key for key in self._seen if key[1] == client]:
                    del self._seen[other]
                self._seen[case, client] = time.monotonic()

    def count_others(self, case: str, client: str) -> int:
        """Number of other tabs with a case on screen."""
        since = time.monotonic() - PRESENT_S
        with self._seen_lock:
            return sum(where == case and who != client and at > since for (where, who), at in self._seen.items())

    def state_changed(self) -> None:
        """Tell the pages to read the state again."""
        self.events.send("state")

    def masks_changed(self, case: str, slices: list[int]) -> None:
        """Tell the pages that slices of a case have changed."""
        self.events.send("case", {"id": case, "version": self.cases.version(case), "slices": slices})

    def job_changed(self, number: int) -> None:
        """Tell the pages about a job."""
        self.events.send("job", asdict(self.jobs.message(number)))
        if self.jobs.get(number).state != "running":
            self.state_changed()
