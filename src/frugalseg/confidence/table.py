"""Confidence as CSV files: one of all scans, one for the slices of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path

from frugalseg.engine.files import atomic_write
from frugalseg.records.confidence import OrganConfidence
from frugalseg.text import align_columns, format_number

SCANS_FILE = "confidence.csv"
FIGURES = ("confidence", "expected_dice", "lower_bound")

Confidences = Mapping[str, Mapping[str, OrganConfidence]]
"""Case id → organ → confidence."""


def sort_scans(confidences: Confidences) -> list[tuple[str, str, OrganConfidence]]:
    """Case, organ and confidence, the least certain first."""
    rows = [(case, organ, own) for case, organs in confidences.items() for organ, own in organs.items()]
    return sorted(rows, key=lambda row: (rank(row[2]), row[:2]))


def rank(own: OrganConfidence) -> float:
    """What masks are sorted by: the expected Dice, or without calibration the confidence."""
    return own.confidence if own.expected_dice is None else own.expected_dice


def find_weakest_slices(own: OrganConfidence, most: int = 3) -> list[int]:
    """The slices with the least confidence, that with the least first."""
    return [z for _, z in sorted(zip(own.slices.confidence, own.slices.slice, strict=True))[:most]]


def describe_least_certain(confidences: Confidences, most: int = 5) -> str:
    """A table of the least certain masks, to be printed; empty where nothing is known."""
    rows = sort_scans(confidences)
    shown = rows[:most]
    if not shown:
        return ""
    table: list[tuple[str, ...]] = [
        ("least certain", "organ", "confidence", "expected Dice", "lower bound", "weakest slices")
    ]
    for case, organ, own in shown:
        slices = ", ".join(map(str, find_weakest_slices(own)))
        table.append((case, organ, *(format_number(figure) for figure in _read_figures(own)), slices))
    more = f"\n{len(rows) - len(shown)} more in {SCANS_FILE}" if len(rows) > len(shown) else ""
    return align_columns(table) + more


def write_scan_confidences(out: Path, confidences: Confidences) -> None:
    """Write `SCANS_FILE`: a row for each scan and organ, the least certain first; raises `DiskError`."""
    rows = (
        (case, organ, *_read_figures(own), " ".join(map(str, find_weakest_slices(own))))
        for case, organ, own in sort_scans(confidences)
    )
    with atomic_write(out / SCANS_FILE, "w") as file:
        file.write(format_csv(("case", "organ", *FIGURES, "weakest_slices"), rows))


def format_slice_confidences(organs: Mapping[str, OrganConfidence]) -> str:
    """The content of <case>.slices.csv: a row for each slice and organ that the mask shows."""
    rows = [row for organ, own in organs.items() for row in _list_slices(organ, own)]
    return format_csv(("slice", "organ", *FIGURES), sorted(rows, key=itemgetter(0)))


def _list_slices(organ: str, own: OrganConfidence) -> Iterator[tuple[object, ...]]:
    slices = own.slices
    names = [organ] * len(slices.slice)
    return zip_longest(slices.slice, names, slices.confidence, slices.expected_dice, slices.lower_bound)


def _read_figures(own: OrganConfidence) -> list[float | None]:
    return [getattr(own, name) for name in FIGURES]


def format_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file with this head; empty cells stand for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
