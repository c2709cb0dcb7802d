"""Labels of a session: values, names and colours; changes of them can be undone."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frugalseg.annotation.cases import CaseTable
from frugalseg.annotation.database import Database
from frugalseg.annotation.slices import SliceTable, Stroke, unpack
from frugalseg.errors import FrugalsegError

MOST_LABELS = 254
"""Label values are 1…254: masks are stored in 8 bits."""

_COLORS = (
    *("#e6503c", "#3c8ce6", "#4bb450", "#f0b428", "#a05ad2", "#32bebe", "#e678b4", "#8c9650"),
    *("#c8783c", "#5064b4", "#96d25a", "#d2468c"),
)
"""Colours of new labels, in turn."""

_NAME = re.compile(r"[\w .-]{1,60}")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class LabelError(FrugalsegError):
    """A label has an invalid or used name, or does not exist."""


@dataclass(frozen=True)
class Label:
    """A label value, its name and its colour as #rrggbb."""

    value: int
    name: str
    color: str


@dataclass(frozen=True)
class LabelUse:
    """Where a label is drawn: number of voxels, and of slices."""

    voxels: int
    slices: int


class LabelTable:
    """The labels in a database."""

    def __init__(self, database: Database, cases: CaseTable, slices: SliceTable) -> None:
        self.database, self.cases, self.slices = database, cases, slices

    def all(self) -> list[Label]:
        """The labels in order of their values."""
        rows = self.database.all("SELECT * FROM labels ORDER BY value")
        return [Label(row["value"], row["name"], row["color"]) for row in rows]

    def ensure(self, names: Mapping[int, str]) -> None:
        """Add the labels that are missing, without an undo: value → name."""
        with self.database.transaction() as connection:
            taken = {label.value: label.name for label in self.all()}
            for value, name in names.items():
                if value not in taken:
                    unused = name if name not in taken.values() else f"{name} {value}"
                    connection.execute("INSERT INTO labels VALUES (?, ?, ?)", [value, unused, _pick_color(value)])
                    taken[value] = unused

    def add(self, name: str, color: str | None) -> Label:
        """Add a label with the lowest unused value; raises `LabelError`."""
        with self.database.transaction() as connection:
            taken = {label.value for label in self.all()}
            value = next((v for v in range(1, MOST_LABELS + 1) if v not in taken), None)
            if value is None:
                raise LabelError(f"there are {MOST_LABELS} labels already", "delete one that is not used")
            label = Label(value, self._check_name(name, None), _check_color(color or _pick_color(value)))
            connection.execute("INSERT INTO labels VALUES (?, ?, ?)", [label.value, label.name, label.color])
            _log(connection, {"remove": value})
        return label

    def change(self, value: int, name: str | None, color: str | None) -> Label:
        """Rename or recolour a label; raises `LabelError`."""
        with self.database.transaction() as connection:
            before = self._find(value)
            label = Label(
                value,
                before.name if name is None else self._check_name(name, value),
                before.color if color is None else _check_color(color),
            )
            self._put(connection, label)
            _log(connection, {"put": asdict(before)})
        return label

    def use(self, value: int) -> LabelUse:
        """Where a label is drawn."""
        self._find(value)
        rows = self._find_slices(value)
        voxels = sum(int(np.count_nonzero(unpack(row["mask"], self._pixels(row)) == value)) for row in rows)
        return LabelUse(voxels, len(rows))

    def delete(self, value: int, client: str, annotator: str) -> set[str]:
        """Delete a label and its voxels in all masks; returns the ids of the cases that changed."""
        with self.database.transaction() as connection:
            label = self._find(value)
            cleared: list[list[Any]] = []
            changes = []
            for row in self._find_slices(value):
                mask = unpack(row["mask"], self._pixels(row)).copy()
                mask[mask == value] = 0
                changes.append((row["case_id"], row["z"], _rewritten(row, mask, "delete label", client, annotator)))
                cleared.append([row["case_id"], row["z"], row["stroke"], row["version"] + 1])
            self.slices.write_within(connection, changes)
            connection.execute("DELETE FROM labels WHERE value = ?", [value])
            _log(connection, {"put": asdict(label), "slices": cleared})
        return {case for case, *_ in cleared}

    def undo(self, client: str, annotator: str) -> set[str]:
        """Undo the last change of a label; returns the ids of the cases that changed.

        Voxels of a deleted label come back in the slices that nobody has changed since.

        Raises:
            LabelError: there is nothing to undo.
        """
        with self.database.transaction() as connection:
            row = self.database.one("SELECT * FROM label_changes WHERE undone = 0 ORDER BY id DESC LIMIT 1")
            if row is None:
                raise LabelError("there is no change of a label to undo", "nothing was changed")
            undo = json.loads(row["undo"])
            if "remove" in undo:
                if self._find_slices(undo["remove"]):
                    raise LabelError("the label is used by now", "delete it instead")
                connection.execute("DELETE FROM labels WHERE value = ?", [undo["remove"]])
            else:
                self._put(connection, Label(**undo["put"]))
            changes = list(self._find_restorable(undo.get("slices", []), client, annotator))
            self.slices.write_within(connection, changes)
            connection.execute("UPDATE label_changes SET undone = 1 WHERE id = ?", [row["id"]])
        return {case for case, *_ in changes}

    def _find_restorable(self, cleared: list[list[Any]], client: str, annotator: str) -> Any:
        for case, z, stroke, version in cleared:
            now = self.database.one("SELECT * FROM slices WHERE case_id = ? AND z = ?", [case, z])
            before = self.database.one("SELECT * FROM strokes WHERE id = ?", [stroke])
            if now is not None and before is not None and now["version"] == version:
                mask = unpack(before["mask"], self._pixels(now))
                yield case, z, _rewritten(now, mask, "undo of a deleted label", client, annotator)

    def _find_slices(self, value: int) -> list[sqlite3.Row]:
        rows = self.database.all("SELECT * FROM slices WHERE mask NOT NULL")
        return [row for row in rows if value in row["present"]]

    def _pixels(self, row: sqlite3.Row) -> tuple[int, int]:
        return self.cases.pixels(row["case_id"])

    def _find(self, value: int) -> Label:
        row = self.database.one("SELECT * FROM labels WHERE value = ?", [value])
        if row is None:
            raise LabelError(f"there is no label with the value {value}", "reload the page")
        return Label(row["value"], row["name"], row["color"])

    def _check_name(self, name: str, value: int | None) -> str:
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise LabelError("the name of a label is 1 to 60 letters, digits, spaces, dots, _ or -", "correct the name")
        if any(label.name == name and label.value != value for label in self.all()):
            raise LabelError(f"there is a label {name} already", "choose another name")
        return name

    @staticmethod
    def _put(connection: sqlite3.Connection, label: Label) -> None:
        connection.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", [label.value, label.name, label.color])


def _rewritten(row: sqlite3.Row, mask: Any, tool: str, client: str, annotator: str) -> Stroke:
    """A change of a slice's mask that keeps its source."""
    return Stroke(mask, tool, client, annotator, 0.0, row["source"], row["confidence"], row["review"])


def _pick_color(value: int) -> str:
    return _COLORS[(value - 1) % len(_COLORS)]


def _check_color(color: str) -> str:
    if not _COLOR.fullmatch(color):
        raise LabelError("a colour is # and six hexadecimal digits", "give for example #e6503c")
    return color.lower()


def _log(connection: sqlite3.Connection, undo: dict[str, Any]) -> None:
    connection.execute("INSERT INTO label_changes (at, undo) VALUES (?, ?)", [time.time(), json.dumps(undo)])
