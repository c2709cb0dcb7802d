"""Writing the masks as files, each in its scan's grid, and annotations.json: when drawing pauses, and at the end.

The database holds every stroke already; the files follow. A mask is written again until the version of its case is
the one that was written, also after the server was killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from frugalseg._version import __version__
from frugalseg.annotation.cases import CaseTable
from frugalseg.annotation.labels import LabelTable
from frugalseg.annotation.place import Place
from frugalseg.annotation.scans import Scans, UnknownCaseError
from frugalseg.annotation.slices import SliceTable, Source
from frugalseg.engine.files import write_json
from frugalseg.errors import DiskError, ScanError
from frugalseg.imaging.write import write_mask
from frugalseg.records.annotations import AnnotatedScan, AnnotationsRecord

PAUSE_S, LATEST_S, RETRY_S = 2.0, 20.0, 10.0
"""Files are written after so many seconds without a stroke, at the latest so long after the first unsaved one, and
again so long after a failed try."""


class Saver:
    """Writes masks in a thread of its own.

    Args:
        place, scans, cases, slices, labels: of the session.
        on_change: called when a case was saved, or the message of a failure has changed.

    Attributes:
        trouble: why files cannot be written at present, or empty.
    """

    def __init__(
        self,
        place: Place,
        scans: Scans,
        cases: CaseTable,
        slices: SliceTable,
        labels: LabelTable,
        on_change: Callable[[], None],
    ) -> None:
        self.place, self.scans, self.cases, self.slices, self.labels = place, scans, cases, slices, labels
        self.trouble = ""
        self._on_change = on_change
        self._first, self._last = 0.0, 0.0
        self._wake, self._ending = threading.Event(), False
        self._saving = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="saver", daemon=True)

    def start(self) -> None:
        """Start the thread; it writes at once what an earlier, killed server had not written."""
        self._thread.start()

    def drawn(self) -> None:
        """Note a change of a mask."""
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._wake.set()

    def stop(self) -> None:
        """Write everything and end the thread; raises `DiskError` where that fails: the database still holds all."""
        self._ending = True
        self._wake.set()
        self._thread.join()
        self.save_all()

    def save_all(self) -> None:
        """Write all masks that have changed, and annotations.json; raises `DiskError`."""
        with self._saving:
            self._first = 0.0
            for case in self.cases.unsaved():
                self._save(case)
            self.write_record()

    def write_record(self) -> None:
        """Write annotations.json if its content has changed."""
        record = self.make_record()
        if not self.place.record.is_file() or AnnotationsRecord.read(self.place.record) != record:
            write_json(self.place.record, record.to_json())

    def make_record(self, sources: Iterable[Source] = (), cases: Iterable[str] = ()) -> AnnotationsRecord:
        """The content of annotations.json; with `sources` or `cases`, only slices of these."""
        wanted, chosen = set(sources), set(cases)
        found: dict[str, dict[str, list[int]]] = {}
        query = "SELECT case_id, z, source FROM slices WHERE source NOT NULL ORDER BY case_id, z"
        for row in self.cases.database.all(query):
            if (not wanted or row["source"] in wanted) and (not chosen or row["case_id"] in chosen):
                found.setdefault(row["case_id"], {}).setdefault(row["source"], []).append(row["z"])
        scans = {
            case: AnnotatedScan(
                mask=self.place.mask(case).name,
                slices=self.cases.depth(case),
                **{source: tuple(numbers) for source, numbers in slices.items()},
            )
            for case, slices in found.items()
        }
        names = {label.name: label.value for label in self.labels.all()}
        return AnnotationsRecord(version=__version__, labels=names, scans=scans)

    def _save(self, case: str) -> None:
        try:
            display = self.scans.open(case)
        except (ScanError, UnknownCaseError) as error:  # a scan that was moved away; the database keeps its mask
            self.cases.failed(case, error.problem)
            return
        version = self.cases.version(case)
        write_mask(display.mask_volume(self.slices.masks(case, display.pixels)), self.place.mask(case))
        self.cases.saved(case, version)
        self._on_change()

    def _run(self) -> None:
        self._try_saving()
        while not self._ending:
            self._wake.wait()
            self._wake.clear()
            while self._first and not self._ending:
                now = time.monotonic()
                due = min(self._last + PAUSE_S, self._first + LATEST_S)
                if now < due:
                    self._wake.wait(due - now)
                    self._wake.clear()
                    continue
                self._try_saving()

    def _try_saving(self) -> None:
        try:
            self.save_all()
            trouble = ""
        except DiskError as error:
            trouble = f"{error.problem}; {error.cure}"
            self._first = time.monotonic() + RETRY_S - LATEST_S  # try again later
            self._last = time.monotonic() + RETRY_S
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_change()
