"""The SQLite file of a folder of annotations: tables, transactions, and a full disk as a `DiskError`.

WAL with synchronous=FULL: what a transaction has written survives a killed server and a power failure.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frugalseg.errors import DiskError, FrugalsegError, RunError, disk_errors

SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL DEFAULT 0, saved INTEGER NOT NULL DEFAULT 0,
    columns INTEGER, rows INTEGER, depth INTEGER, x_mm REAL, y_mm REAL, z_mm REAL,
    error TEXT NOT NULL DEFAULT '', notice TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS slices (
    case_id TEXT NOT NULL, z INTEGER NOT NULL, version INTEGER NOT NULL, stroke INTEGER NOT NULL, source TEXT,
    confidence REAL, review TEXT NOT NULL DEFAULT '', present BLOB NOT NULL, mask BLOB, changed_by TEXT NOT NULL,
    PRIMARY KEY (case_id, z)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS strokes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, case_id TEXT NOT NULL, z INTEGER NOT NULL, at REAL NOT NULL,
    annotator TEXT NOT NULL, client TEXT NOT NULL, tool TEXT NOT NULL, seconds REAL NOT NULL, source TEXT,
    confidence REAL, review TEXT NOT NULL DEFAULT '', digest BLOB NOT NULL, mask BLOB);
CREATE INDEX IF NOT EXISTS strokes_of_slice ON strokes (case_id, z, id);
CREATE TABLE IF NOT EXISTS labels (value INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS label_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, undo TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, case_id TEXT, options TEXT NOT NULL, state TEXT NOT NULL,
    progress REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
    started REAL, ended REAL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
"""`strokes` is append-only: rows are never changed or deleted."""

FORMAT = 1
"""Version of the tables, kept as SQLite's user_version."""

_FULL = ("disk is full", "disk I/O error", "readonly", "unable to open")


class ClosedDatabaseError(FrugalsegError):
    """The server has ended while a thread still worked."""

    def __init__(self) -> None:
        super().__init__("the server has ended", "start it again")


class Database:
    """A SQLite file shared by the threads of one process; every transaction is atomic and on disk when it ends.

    Args:
        path: the file; its folder is created if it is missing.

    Raises:
        RunError: it is no such file, or was made by a later version.
        DiskError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._prepare_tables()
        except sqlite3.DatabaseError as error:
            raise self._translate(error) from error

    def _prepare_tables(self) -> None:
        found = int(self.one("PRAGMA user_version")[0])
        if found > FORMAT:
            raise RunError(f"{self.path} was made by a later version of frugalseg", "update frugalseg")
        self._connection.executescript(SCHEMA)
        self._connection.execute(f"PRAGMA user_version={FORMAT}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Inside, all changes are made together or, on an error, not at all; other threads wait.

        Raises:
            DiskError: the disk is full or fails; nothing was changed.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                raise self._translate(error) from error

    def all(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.ProgrammingError as error:  # closed by the end of the server, while a thread still reads
                raise ClosedDatabaseError from error

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first row of a query, or None."""
        return next(iter(self.all(query, values)), None)

    def close(self) -> None:
        """Write everything into the one file, and close it."""
        with self._lock:
            self._connection.close()

    def _translate(self, error: sqlite3.DatabaseError) -> Exception:
        if isinstance(error, sqlite3.ProgrammingError):
            return ClosedDatabaseError()
        if any(words in str(error) for words in _FULL):
            return DiskError(f"{self.path.name} cannot be written ({error})", "free some space; the page retries")
        if isinstance(error, sqlite3.OperationalError):
            return error
        return RunError(f"{self.path} is damaged ({error})", "restore it, or choose another --out")
