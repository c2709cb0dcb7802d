"""The model of the last training, as the database remembers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from frugalseg.annotation.database import Database

_FACT = "model"


@dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
        folder: its run folder, relative to the folder of annotations.
        trained: when, ISO 8601.
        slices: number of slices with a label that it was trained on.
        dice: on its validation patients; None without any.
        message: what is known about how good it is.
    """

    folder: str
    trained: str
    slices: int
    dice: float | None
    message: str

    @classmethod
    def find(cls, database: Database) -> TrainedModel | None:
        """The last one, or None."""
        row = database.one("SELECT value FROM facts WHERE name = ?", [_FACT])
        return None if row is None else cls(**json.loads(row["value"]))

    def remember(self, database: Database) -> None:
        """Make it the last one."""
        with database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [_FACT, json.dumps(asdict(self))])

    def path(self, out: Path) -> Path:
        """Its run folder."""
        return out / self.folder
