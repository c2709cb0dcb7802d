"""What was promised for each mask, beside what was measured, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frugalseg.confidence.table import Confidences, find_weakest_slices, sort_scans
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.records.confidence import OrganConfidence
from frugalseg.text import pluralize


@dataclass(frozen=True)
class TrustRow:
    """One organ's mask of one scan.

    Attributes:
        own: the confidence in it.
        weakest: its slices of the least confidence.
        dice: measured; None without a reference.
    """

    case: str
    organ: str
    own: OrganConfidence
    weakest: list[int]
    dice: float | None

    @property
    def broken(self) -> bool:
        """Whether the Dice is below the bound."""
        return self.dice is not None and self.own.lower_bound is not None and self.dice < self.own.lower_bound


def list_trust(confidences: Confidences, rows: Sequence[CaseRow], organs: Mapping[str, object]) -> list[TrustRow]:
    """The masks of these organs, the least certain first; also those of scans without a reference."""
    dice = {(row.case, row.organ): row["dice"] for row in rows}
    return [
        TrustRow(case, organ, own, find_weakest_slices(own), dice.get((case, organ)))
        for case, organ, own in sort_scans(confidences)
        if organ in organs
    ]


def describe_kept(trust: Sequence[TrustRow]) -> str:
    """How many of the bounds held, in a sentence; empty where none could be checked."""
    checked = [row for row in trust if row.dice is not None and row.own.lower_bound is not None]
    if not checked:
        return ""
    kept = sum(not row.broken for row in checked)
    return f"The lower bound held for {kept} of {pluralize(len(checked), 'mask')} with a reference."
