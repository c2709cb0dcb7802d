"""Read a table that assigns patients to groups, such as scanner, sex or site."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import OptionError, PairingError
from frugalseg.text import name_some, pluralize

MOST_GROUPS = 8
"""Groups that a column may have: a column of more is a measurement, a date or a name."""


@dataclass(frozen=True)
class Column:
    """A column that divides the patients.

    Attributes:
        name: its heading.
        groups: value → patients, sorted by value.
        without_value: number of patients with an empty cell.
    """

    name: str
    groups: dict[str, list[str]]
    without_value: int


@dataclass(frozen=True)
class GroupTable:
    """The groups of the patients of an evaluation.

    Attributes:
        path: the table.
        patients: patient → case ids.
        columns: that divide the patients.
        left_out: column → why it does not.
    """

    path: Path
    patients: dict[str, list[str]]
    columns: list[Column]
    left_out: dict[str, str]


def read_group_table(path: Path, patients: Mapping[str, str]) -> GroupTable:
    """Read the groups of these scans.

    Args:
        path: CSV with commas, semicolons or tabs; the first column holds case ids or patients, the others groups.
        patients: case id → patient.

    Raises:
        OptionError: it cannot be read, has fewer than two columns, a heading or an id twice, or no column that divides
            the patients.
        PairingError: scans without a row.
    """
    headings, rows = _read_rows(path)
    missing = [case for case, patient in patients.items() if case not in rows and patient not in rows]
    if missing:
        raise PairingError(
            f"{path} has no row for {pluralize(len(missing), 'scan')}: {name_some(missing, 10)}",
            f"add them; the first column ({headings[0]}) holds the case id, or the patient of --patient-pattern",
        )
    members: dict[str, list[str]] = {}
    for case, patient in patients.items():
        members.setdefault(patient, []).append(case)
    columns, left_out = [], {}
    for place, name in enumerate(headings[1:], start=1):
        values = {
            patient: {rows[case if case in rows else patient][place] for case in cases}
            for patient, cases in members.items()
        }
        column = _divide(name, values)
        if isinstance(column, Column):
            columns.append(column)
        else:
            left_out[name] = column
    if not columns:
        raise OptionError(
            f"no column of {path} divides the patients: "
            + "; ".join(f"{name} {reason}" for name, reason in left_out.items()),
            "give a column with two or more groups, each of several patients",
        )
    return GroupTable(path, members, columns, left_out)


def _read_rows(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Headings, and the row of each id, all without spaces around them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise OptionError(f"--groups {path} {reason}", "give a CSV table, encoded in UTF-8") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=separator)]
    lines = [line for line in lines if any(line)]
    cure = "write one heading line and one line for each scan or patient, such as case,scanner,sex"
    if len(lines) < 2 or len(lines[0]) < 2:
        raise OptionError(f"--groups {path} is not a table with a heading line and two or more columns", cure)
    headings, *body = lines
    if twice := [name for name in headings[1:] if headings.count(name) > 1 or not name]:
        raise OptionError(f"--groups {path} has the heading {twice[0]!r} twice or empty", "give each column a name")
    if uneven := [number for number, line in enumerate(body, start=2) if len(line) != len(headings)]:
        raise OptionError(f"--groups {path}: line {uneven[0]} has not {len(headings)} cells", cure)
    return headings, _index_rows(path, body)


def _index_rows(path: Path, body: Sequence[list[str]]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in body:
        if rows.setdefault(line[0], line) != line:
            raise OptionError(f"--groups {path} has two different rows for {line[0]!r}", "keep one of them")
    return rows


def _divide(name: str, values: Mapping[str, set[str]]) -> Column | str:
    """The groups of a column; or why it is not used, as the end of a sentence that begins with its name.

    Args:
        name: of the column.
        values: patient → the values of his scans.
    """
    mixed = [patient for patient, own in values.items() if len(own - {""}) > 1]
    if mixed:
        return f"has several values for the scans of one patient ({name_some(mixed, 3)}): groups compare patients"
    groups: dict[str, list[str]] = {}
    for patient, own in values.items():
        for value in own - {""}:
            groups.setdefault(value, []).append(patient)
    known = sum(map(len, groups.values()))
    if len(groups) < 2:
        return f"has one value ({next(iter(groups))})" if groups else "is empty"
    if all(map(_is_number, groups)) and len(groups) > min(MOST_GROUPS, max(2, known / 2)):
        return f"is a measurement ({len(groups)} different numbers): divide it into groups, such as <50 and >=50"
    if len(groups) > MOST_GROUPS:
        return f"has {len(groups)} different values, more than {MOST_GROUPS} groups"
    return Column(name, dict(sorted(groups.items())), len(values) - known)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
