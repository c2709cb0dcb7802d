"""Slices of masks: what each holds, where it is from, and every change that was ever made.

A slice's mask is kept in display order, compressed. A change states the version it was made from; if another change
came first, it is refused. Every change is also appended to the log of strokes with its mask, so that undoing finds the
source that the earlier state had.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from frugalseg.annotation.database import Database
from frugalseg.annotation.display import Mask
from frugalseg.errors import FrugalsegError

Source = Literal["outlined", "propagated", "predicted", "reviewed"]

LABELLED: tuple[Source, ...] = ("outlined", "reviewed")
"""Sources of slices that a person has drawn or accepted: no job changes them, and trainings learn from them."""

_EMPTY = hashlib.sha256(b"empty").digest()


class ConflictError(FrugalsegError):
    """A change of a slice that someone else has changed meanwhile.

    Attributes:
        version: the present version of the slice.
        by: who made it: id of a tab, or a job.
    """

    def __init__(self, version: int, by: str) -> None:
        super().__init__("this slice was changed elsewhere", "read it again, then repeat the last stroke")
        self.version, self.by = version, by


class SliceState(NamedTuple):
    """One slice.

    Attributes:
        version: increases with each change; 0 for a slice that nobody has touched.
        source: where its mask is from; None for an unlabelled slice.
        confidence: 0…1, of a mask made by a program, if it is known.
        review: why a person should look at it, or empty.
        labels: label values that it holds, in order.
    """

    slice: int
    version: int = 0
    source: Source | None = None
    confidence: float | None = None
    review: str = ""
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stroke:
    """A change of a slice's mask.

    Attributes:
        mask: the whole slice afterwards.
        tool: what made it.
        client: id of the tab, or the job.
        annotator: who.
        seconds: that it took.
        source: of the slice afterwards.
        confidence, review: see `SliceState`.
    """

    mask: Mask
    tool: str
    client: str
    annotator: str = ""
    seconds: float = 0.0
    source: Source | None = "outlined"
    confidence: float | None = None
    review: str = ""


class SliceTable:
    """The slices of all cases in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def of_case(self, case: str, depth: int) -> list[SliceState]:
        """Every slice of a case of so many slices, in order."""
        rows = self.database.all("SELECT * FROM slices WHERE case_id = ?", [case])
        known = {row["z"]: _to_state(row) for row in rows}
        return [known.get(z, SliceState(z)) for z in range(depth)]

    def state(self, case: str, z: int) -> SliceState:
        """One slice."""
        row = self.database.one("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z])
        return SliceState(z) if row is None else _to_state(row)

    def mask(self, case: str, z: int, pixels: tuple[int, int]) -> tuple[Mask, SliceState]:
        """The mask of a slice of so many rows and columns, and its state."""
        row = self.database.one("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z])
        if row is None:
            return np.zeros(pixels, np.uint8), SliceState(z)
        return unpack(row["mask"], pixels), _to_state(row)

    def masks(self, case: str, pixels: tuple[int, int], sources: Iterable[Source] = ()) -> Iterator[tuple[int, Mask]]:
        """The masks of a case that are not empty, one after the other; with `sources`, only slices of these."""
        wanted = set(sources)
        numbers = self.database.all("SELECT z, source FROM slices WHERE case_id = ? AND mask NOT NULL", [case])
        for z in [row["z"] for row in numbers if not wanted or row["source"] in wanted]:
            yield z, self.mask(case, z, pixels)[0]

    def change(self, case: str, z: int, expected: int, stroke: Stroke) -> SliceState:
        """Change one slice; it is on disk when this returns.

        Args:
            case, z: the slice.
            expected: the version that the stroke was drawn on.
            stroke: the change. After an undo or redo the slice has the source of the state that comes back.

        Raises:
            ConflictError: the slice has another version.
            DiskError: nothing was changed.
        """
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z]).fetchone()
            version = 0 if row is None else row["version"]
            if version != expected:
                raise ConflictError(version, row["changed_by"] if row else "")
            _write(connection, case, z, row, stroke)
            _touch(connection, case)
        return self.state(case, z)

    def fill(self, case: str, strokes: Iterable[tuple[int, Stroke]], over: Iterable[Source | None]) -> list[int]:
        """Change the slices of a case whose source is in `over`, all together; returns their numbers.

        Raises:
            DiskError: nothing was changed.
        """
        replaceable, changed = set(over), []
        with self.database.transaction() as connection:
            for z, stroke in strokes:
                row = connection.execute("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z]).fetchone()
                if (row["source"] if row else None) in replaceable:
                    _write(connection, case, z, row, stroke)
                    changed.append(z)
            if changed:
                _touch(connection, case)
        return changed

    def accept(self, case: str, slices: Iterable[int], pixels: tuple[int, int], client: str, annotator: str) -> None:
        """Make slices reviewed, with the masks that they have; outlined ones stay outlined."""
        with self.database.transaction() as connection:
            for z in slices:
                row = connection.execute("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z]).fetchone()
                if row is not None and row["source"] in LABELLED:
                    continue
                mask = np.zeros(pixels, np.uint8) if row is None else unpack(row["mask"], pixels)
                _write(connection, case, z, row, Stroke(mask, "accept", client, annotator, source="reviewed"))
            _touch(connection, case)

    def write_within(self, connection: sqlite3.Connection, changes: Iterable[tuple[str, int, Stroke]]) -> None:
        """Change slices of any cases inside a transaction of the caller."""
        touched = set()
        for case, z, stroke in changes:
            row = connection.execute("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z]).fetchone()
            _write(connection, case, z, row, stroke)
            touched.add(case)
        for case in touched:
            _touch(connection, case)

    def seconds(self) -> float:
        """The time that all strokes took."""
        return float(self.database.one("SELECT COALESCE(SUM(seconds), 0) FROM strokes")[0])


def pack(mask: Mask) -> bytes | None:
    """A mask compressed; None where it is empty."""
    return zlib.compress(np.ascontiguousarray(mask).tobytes(), 1) if mask.any() else None


def unpack(stored: bytes | None, pixels: tuple[int, int]) -> Mask:
    """A mask of so many rows and columns from `pack`."""
    if stored is None:
        return np.zeros(pixels, np.uint8)
    return np.frombuffer(zlib.decompress(stored), np.uint8).reshape(pixels)


def _to_state(row: sqlite3.Row) -> SliceState:
    return SliceState(row["z"], row["version"], row["source"], row["confidence"], row["review"], tuple(row["present"]))


def _write(connection: sqlite3.Connection, case: str, z: int, row: sqlite3.Row | None, stroke: Stroke) -> None:
    """Append a stroke to the log, and make its mask that of the slice."""
    packed = pack(stroke.mask)
    digest = _EMPTY if packed is None else hashlib.sha256(stroke.mask.tobytes()).digest()
    shown = 0 if row is None else row["stroke"]
    place, source, confidence, review = _find_undone(connection, case, z, shown, stroke, digest)
    cursor = connection.execute(
        "INSERT INTO strokes (case_id, z, at, annotator, client, tool, seconds, source, confidence, review, digest, "
        "mask) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(case, z, time.time(), stroke.annotator, stroke.client, stroke.tool, stroke.seconds),
            *(source, confidence, review, digest, packed),
        ],
    )
    present = bytes(int(value) for value in np.unique(stroke.mask) if value)
    connection.execute(
        "INSERT OR REPLACE INTO slices (case_id, z, version, stroke, source, confidence, review, present, mask, "
        "changed_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(case, z, 1 if row is None else row["version"] + 1, cursor.lastrowid if place is None else place),
            *(source, confidence, review, present, packed, stroke.client),
        ],
    )


def _find_undone(
    connection: sqlite3.Connection, case: str, z: int, shown: int, stroke: Stroke, digest: bytes
) -> tuple[int | None, Source | None, float | None, str]:
    """The logged state that an undo or redo brings back (0: the untouched slice), and its source; None for others.

    `shown` is the logged state that the slice has now: undo goes back from there, redo forward.
    """
    if stroke.tool in ("undo", "redo"):
        order = ("<", "DESC") if stroke.tool == "undo" else (">", "ASC")
        found = connection.execute(
            "SELECT id, source, confidence, review FROM strokes WHERE case_id = ? AND z = ? AND digest = ? AND "
            f"tool NOT IN ('undo', 'redo') AND id {order[0]} ? ORDER BY id {order[1]} LIMIT 1",
            [case, z, digest, shown],
        ).fetchone()
        if found is not None:
            return found["id"], found["source"], found["confidence"], found["review"]
        if stroke.tool == "undo" and digest == _EMPTY:
            return 0, None, None, ""
    return None, stroke.source, stroke.confidence, stroke.review


def _touch(connection: sqlite3.Connection, case: str) -> None:
    connection.execute("UPDATE cases SET version = version + 1 WHERE id = ?", [case])
