"""What the database remembers of the last training, prediction and suggestion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frugalseg.annotation.database import Database
from frugalseg.annotation.messages import ExpectedDice, Suggestion

_FACT, _EXPECTED, _SUGGESTED = "model", "expected dice", "suggestions"


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
        known = _recall(database, _FACT)
        return None if known is None else cls(**known)

    def remember(self, database: Database) -> None:
        """Make it the last one."""
        _remember(database, _FACT, asdict(self))

    def path(self, out: Path) -> Path:
        """Its run folder."""
        return out / self.folder


def remember_expected_dice(database: Database, expected: ExpectedDice | None) -> None:
    """Keep what Dice the last predictions are expected to have."""
    _remember(database, _EXPECTED, None if expected is None else asdict(expected))


def recall_expected_dice(database: Database) -> ExpectedDice | None:
    """What Dice the last predictions are expected to have; None where nothing is promised."""
    known = _recall(database, _EXPECTED)
    return None if known is None else ExpectedDice(**known)


def remember_suggestions(database: Database, suggestions: Iterable[Suggestion]) -> None:
    """Keep the slices that the last `suggest` names, most useful first."""
    _remember(database, _SUGGESTED, [asdict(suggestion) for suggestion in suggestions])


def recall_suggestions(database: Database) -> list[Suggestion]:
    """The slices that the last `suggest` names."""
    return [Suggestion(**known) for known in _recall(database, _SUGGESTED) or []]


def _remember(database: Database, name: str, value: object) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, json.dumps(value)])


def _recall(database: Database, name: str) -> Any:
    row = database.one("SELECT value FROM facts WHERE name = ?", [name])
    return None if row is None else json.loads(row["value"])
