"""The cases of a session: their grids, versions and progress."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from frugalseg.annotation.database import Database
from frugalseg.annotation.display import Display
from frugalseg.annotation.scans import UnknownCaseError

CaseState = Literal["new", "started", "propagated", "predicted", "reviewed", "unreadable"]


@dataclass(frozen=True)
class CaseSummary:
    """One line of the list of cases.

    Attributes:
        id: case id.
        state: how far it is.
        message: why it cannot be read, or what is odd about it.
        shape, spacing: columns, rows, slices and their mm; None before it is opened for the first time.
        outlined, reviewed: number of slices.
        confidence: mean over the slices that a program made and nobody has reviewed; None where it is not known.
        rank: 0 for the case to look at first: the least certain.
        saved: whether the file of its mask is up to date.
    """

    id: str
    state: CaseState
    message: str
    shape: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    outlined: int
    reviewed: int
    confidence: float | None
    rank: int
    saved: bool


_SUMMARY = """
SELECT cases.*, COALESCE(SUM(source = 'outlined'), 0) AS outlined, COALESCE(SUM(source = 'reviewed'), 0) AS reviewed,
    COALESCE(SUM(source = 'propagated'), 0) AS propagated, COALESCE(SUM(source = 'predicted'), 0) AS predicted,
    AVG(CASE WHEN source IN ('propagated', 'predicted') THEN confidence END) AS mean_confidence
FROM cases LEFT JOIN slices ON slices.case_id = cases.id GROUP BY cases.id ORDER BY cases.id
"""


class CaseTable:
    """The cases in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def ensure(self, cases: Iterable[str]) -> None:
        """Add the cases that are missing."""
        with self.database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO cases (id) VALUES (?)", [(case,) for case in cases])

    def opened(self, case: str, display: Display) -> bool:
        """Note the grid of a case; whether that is new. Raises `UnknownCaseError` where it was annotated on another."""
        row = self._row(case)
        shape = (row["columns"], row["rows"], row["depth"])
        if shape == display.shape and not row["error"]:
            return False
        if shape[0] is not None and shape != display.shape and self.is_annotated(case):
            raise UnknownCaseError(
                f"{case} has another size than when it was annotated",
                "restore the scan, or annotate it into another --out",
            )
        self._update(
            "UPDATE cases SET columns = ?, rows = ?, depth = ?, x_mm = ?, y_mm = ?, z_mm = ?, error = '' WHERE id = ?",
            [*display.shape, *display.upright.spacing, case],
        )
        return True

    def is_annotated(self, case: str) -> bool:
        """Whether any slice of a case was ever changed."""
        return self.database.one("SELECT 1 FROM slices WHERE case_id = ? LIMIT 1", [case]) is not None

    def failed(self, case: str, why: str) -> None:
        """Note why the scan of a case cannot be read."""
        self._update("UPDATE cases SET error = ? WHERE id = ?", [why, case])

    def noticed(self, case: str, what: str) -> None:
        """Note what is odd about a case that can be read."""
        self._update("UPDATE cases SET notice = ? WHERE id = ?", [what, case])

    def saved(self, case: str, version: int) -> None:
        """Note that the file of a mask holds this version."""
        self._update("UPDATE cases SET saved = ? WHERE id = ?", [version, case])

    def unsaved(self) -> list[str]:
        """The cases whose masks have changed since they were written."""
        return [row["id"] for row in self.database.all("SELECT id FROM cases WHERE saved < version ORDER BY id")]

    def version(self, case: str) -> int:
        """The version of a case; it increases with each change of a slice."""
        return int(self._row(case)["version"])

    def pixels(self, case: str) -> tuple[int, int]:
        """Rows and columns of the slices of a case that was opened before."""
        row = self._row(case)
        return int(row["rows"]), int(row["columns"])

    def depth(self, case: str) -> int:
        """Number of slices of a case that was opened before; 0 where it was not."""
        return int(self._row(case)["depth"] or 0)

    def summaries(self, listed: Iterable[str]) -> list[CaseSummary]:
        """One line for each of these cases, by id."""
        wanted = set(listed)
        rows = [row for row in self.database.all(_SUMMARY) if row["id"] in wanted]
        order = {row["id"]: rank for rank, row in enumerate(sorted(rows, key=_by_urgency))}
        return [_summarize(row, order[row["id"]]) for row in rows]

    def _row(self, case: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self.database.one("SELECT * FROM cases WHERE id = ?", [case])
        if row is None:
            raise UnknownCaseError("there is no such scan", "reload the page")
        return row

    def _update(self, query: str, values: list[object]) -> None:
        with self.database.transaction() as connection:
            connection.execute(query, values)


def _summarize(row: sqlite3.Row, rank: int) -> CaseSummary:
    known = row["depth"] is not None
    return CaseSummary(
        id=row["id"],
        state=_find_state(row),
        message=row["error"] or row["notice"],
        shape=(row["columns"], row["rows"], row["depth"]) if known else None,
        spacing=(row["x_mm"], row["y_mm"], row["z_mm"]) if known else None,
        outlined=row["outlined"],
        reviewed=row["reviewed"],
        confidence=row["mean_confidence"],
        rank=rank,
        saved=row["saved"] >= row["version"],
    )


def _find_state(row: sqlite3.Row) -> CaseState:
    if row["error"]:
        return "unreadable"
    if row["depth"] and row["outlined"] + row["reviewed"] >= row["depth"]:
        return "reviewed"
    made: tuple[CaseState, ...] = ("predicted", "propagated")
    for state in made:
        if row[state]:
            return state
    return "started" if row["outlined"] + row["reviewed"] else "new"


def _by_urgency(row: sqlite3.Row) -> tuple[int, float, str]:
    """Sorts cases that need a person first: least certain, then those of unknown certainty, then finished ones."""
    state = _find_state(row)
    late = {"reviewed": 2, "unreadable": 3}.get(state, 0 if row["mean_confidence"] is not None else 1)
    return late, row["mean_confidence"] or 0.0, row["id"]
