"""How sure a command is of the masks that it has written, from the tables beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from frugalseg.annotation.messages import ExpectedDice

Review = tuple[float | None, str]
"""Confidence in a slice, 0…1, if it is known, and why a person should look at it, or empty."""

PROMISE = "mean over the predicted scans; the mean of their lower bounds is"


def read_reviews(path: Path | None) -> dict[int, Review]:
    """Slice → lowest confidence over its organs, and all reasons to review it, of a <case>.slices.csv.

    Empty without such a file: SAM-Mix writes none.
    """
    if path is None or not path.is_file():
        return {}
    found: dict[int, Review] = {}
    for row in _read_rows(path):
        before, reasons = found.get(int(row["slice"]), (None, ""))
        known = [value for value in (before, _to_number(row.get("confidence"))) if value is not None]
        added = [text for text in (reasons, row.get("review") or "") if text]
        found[int(row["slice"])] = (min(known, default=None), "; ".join(dict.fromkeys(added)))
    return found


def read_expected_dice(path: Path) -> ExpectedDice | None:
    """What Dice the predicted masks of a folder are expected to have, of its confidence.csv; None without a promise."""
    if not path.is_file():
        return None
    rows = _read_rows(path)
    expected, lower = ([_to_number(row.get(name)) for row in rows] for name in ("expected_dice", "lower_bound"))
    means, bounds = [v for v in expected if v is not None], [v for v in lower if v is not None]
    if not means or not bounds:
        return None
    low = round(fmean(bounds), 3)
    return ExpectedDice(round(fmean(means), 3), low, None, f"{PROMISE} {low:.2f}")


def _read_rows(path: Path) -> list[Mapping[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _to_number(text: str | None) -> float | None:
    return float(text) if text else None
