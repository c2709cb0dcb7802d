"""Reference masks to compare with, only with --references: they are read when asked for."""

from __future__ import annotations

import threading

import numpy as np

from frugalseg.annotation.display import Mask
from frugalseg.annotation.problems import RequestProblem
from frugalseg.annotation.session import Session
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.volume import Array


class ReferenceMasks:
    """The reference masks of a session; the one that was used last is kept in memory."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._last: tuple[str, Array] | None = None

    def slice(self, case: str, z: int) -> Mask:
        """One slice, (rows, columns)."""
        stack = self._read(case)
        if not 0 <= z < len(stack):
            raise RequestProblem(404, f"there is no slice {z}", "reload the page")
        return np.ascontiguousarray(stack[z]).astype(np.uint8)

    def dice(self, case: str) -> dict[str, float | None]:
        """Dice of each label over the whole scan: label name → value, None where neither mask shows it."""
        session, stack = self._session, self._read(case)
        display = session.open(case)
        mask = np.zeros(stack.shape, np.uint8)
        for z, plane in session.slices.masks(case, display.pixels):
            mask[z] = plane
        found: dict[str, float | None] = {}
        for label in session.labels.all():
            drawn, wanted = mask == label.value, stack == label.value
            total = int(np.count_nonzero(drawn)) + int(np.count_nonzero(wanted))
            found[label.name] = 2 * int(np.count_nonzero(drawn & wanted)) / total if total else None
        return found

    def _read(self, case: str) -> Array:
        session = self._session
        session.scans.path(case)
        if case not in session.references:
            hint = "start with --references" if not session.references else "add it to the folder"
            raise RequestProblem(404, "there is no reference mask of this scan", hint)
        with self._lock:
            if self._last is None or self._last[0] != case:
                display = session.open(case)
                volume = read_labels_on(session.references[case], display.volume, case)
                self._last = case, display.mask_slices(volume)
            return self._last[1]
