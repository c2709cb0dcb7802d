"""The jobs of a session, as rows of its database: what was asked for, and how far it is."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from frugalseg.annotation.database import Database
from frugalseg.annotation.messages import JobKind, JobMessage, JobOptions, JobState
from frugalseg.errors import FrugalsegError

LOG_LINES, LOG_BYTES = 12, 8192
"""Number of lines of a log that the page shows, and how much of its end is read for them."""


class JobError(FrugalsegError):
    """A job that does not exist, or cannot be started, cancelled or resumed now."""


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        id: its number.
        kind: what it does.
        case: for one scan, or None.
        options: of a training.
        state: how far it is; interrupted: the server ended, and `resume` continues it.
        folder: its files.
    """

    id: int
    kind: JobKind
    case: str | None
    options: JobOptions
    state: JobState
    folder: Path

    @property
    def log(self) -> Path:
        """What its commands print."""
        return self.folder / "log.txt"


class JobTable:
    """The jobs in a database.

    Args:
        database: of the session.
        folder: of the jobs' folders.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder

    def add(self, kind: JobKind, case: str | None, options: JobOptions) -> Job:
        """Queue a job."""
        with self.database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO jobs (kind, case_id, options, state) VALUES (?, ?, ?, 'queued')",
                [kind, case, json.dumps(asdict(options))],
            )
        assert cursor.lastrowid is not None
        return self.get(cursor.lastrowid)

    def get(self, number: int) -> Job:
        """A job by its number; raises `JobError`."""
        row = self.database.one("SELECT * FROM jobs WHERE id = ?", [number])
        if row is None:
            raise JobError(f"there is no job {number}", "reload the page")
        return self._to_job(row)

    def next_queued(self) -> Job | None:
        """The job that was queued first."""
        row = self.database.one("SELECT * FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1")
        return None if row is None else self._to_job(row)

    def unfinished(self, kind: JobKind, case: str | None) -> Job | None:
        """A job of this kind for this case that is queued or running."""
        row = self.database.one(
            "SELECT * FROM jobs WHERE kind = ? AND case_id IS ? AND state IN ('queued', 'running')", [kind, case]
        )
        return None if row is None else self._to_job(row)

    def update(self, number: int, **values: Any) -> None:
        """Set columns of a job."""
        columns = ", ".join(f"{name} = ?" for name in values)
        with self.database.transaction() as connection:
            connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", [*values.values(), number])

    def interrupt_unfinished(self) -> None:
        """Mark jobs as interrupted that an earlier, ended server left running or queued."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'interrupted', message = 'the server ended; resume continues it' "
                "WHERE state IN ('running', 'queued')"
            )

    def messages(self, most: int = 50) -> list[JobMessage]:
        """The latest jobs, newest first."""
        rows = self.database.all("SELECT * FROM jobs ORDER BY id DESC LIMIT ?", [most])
        return [self._to_message(row) for row in rows]

    def message(self, number: int) -> JobMessage:
        """One job."""
        self.get(number)
        return self._to_message(self.database.one("SELECT * FROM jobs WHERE id = ?", [number]))

    def _to_job(self, row: sqlite3.Row) -> Job:
        options = JobOptions(**json.loads(row["options"]))
        return Job(row["id"], row["kind"], row["case_id"], options, row["state"], self.folder / f"{row['id']:04d}")

    def _to_message(self, row: sqlite3.Row) -> JobMessage:
        job = self._to_job(row)
        return JobMessage(
            id=job.id,
            kind=job.kind,
            case=job.case,
            state=job.state,
            progress=row["progress"],
            message=row["message"],
            hint=row["hint"],
            log=read_last_lines(job.log),
            started=_format_time(row["started"]),
            ended=_format_time(row["ended"]),
        )


def read_last_lines(path: Path, lines: int = LOG_LINES) -> list[str]:
    """The last lines of a log; none where there is no log yet."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text.splitlines()[-lines:]


def _format_time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
