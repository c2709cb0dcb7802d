"""The rules by which slices are suggested for a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frugalseg.dataset.coverage import Pick, choose_representatives, take_spread, take_turns
from frugalseg.dataset.descriptors import Features
from frugalseg.suggestion.candidates import Candidates, Rows

if TYPE_CHECKING:
    from frugalseg.suggestion.certainty import Certainty


@dataclass(frozen=True)
class Choice:
    """A suggested slice: its row of the store, why, and what it represents (see `records.suggestions`)."""

    row: int
    reason: str
    represents: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at.

    Attributes:
        candidates: the slices to choose from.
        features: features of the given rows of the store; computed when a rule asks for them.
        certainty: what the model thinks of the candidates; None without a model.
        draw: number of the random order of the patients.
    """

    candidates: Candidates
    features: Callable[[Rows], Features]
    certainty: Certainty | None
    draw: int


def choose_spread(evidence: Evidence, count: int) -> list[Choice]:
    """One slice from each patient in turn, those with the fewest outlined slices first, at even heights: in the middle,
    at a quarter, at three quarters … of the scan, or of the organs where a model says where they are."""
    table = evidence.candidates.table
    if evidence.certainty is not None and (evidence.certainty.areas > 0).any():
        table = table[evidence.certainty.areas > 0]
    patients = np.array(sorted(table["patient"].unique()))
    outlined = evidence.candidates.store.slices.loc[evidence.candidates.outlined, "patient"].value_counts()
    order = np.random.default_rng([evidence.draw, 1]).permutation(len(patients))
    patients = np.array(sorted(patients[order], key=lambda patient: int(outlined.get(patient, 0))))
    of_patient = [table.index[table["patient"] == patient].to_numpy(np.int64) for patient in patients]
    queues = [take_spread(rows, first, len(patients)) for first, rows in enumerate(of_patient)]
    whole = "scan" if evidence.certainty is None else "organ"
    heights = table.groupby("case").cumcount() / table.groupby("case")["z"].transform("size")
    return [
        Choice(int(row), f"a patient with few outlines, at {heights[row]:.0%} of the {whole}'s height")
        for row in take_turns(queues)[:count]
    ]


def choose_alike(evidence: Evidence, count: int) -> list[Choice]:
    """Slices that look like many slices that are not outlined, and unlike outlined ones."""
    picks = _choose_covering(evidence, count, None)
    return [
        Choice(
            row, f"represents {pick.represents:.0%} of the slices without outlines, which look like it", pick.represents
        )
        for row, pick in picks
    ]


def choose_unsure(evidence: Evidence, count: int) -> list[Choice]:
    """Slices that look like many of which the model is unsure."""
    assert evidence.certainty is not None
    picks = _choose_covering(evidence, count, evidence.certainty)
    return [
        Choice(
            row, f"represents slices with {pick.represents:.0%} of the errors that the model expects", pick.represents
        )
        for row, pick in picks
    ]


def _choose_covering(evidence: Evidence, count: int, certainty: Certainty | None) -> list[tuple[int, Pick]]:
    rows, outlined = evidence.candidates.rows, evidence.candidates.outlined
    features = evidence.features(np.concatenate([rows, outlined]))
    weights = None if certainty is None else certainty.errors + 1e-6
    picks = choose_representatives(features[: len(rows)], count, weights, features[len(rows) :])
    return [(int(rows[pick.index]), pick) for pick in picks]


RULES: dict[str, Callable[[Evidence, int], list[Choice]]] = {
    "spread": choose_spread,
    "alike": choose_alike,
    "unsure": choose_unsure,
}
"""Value of --rule → the rule."""

MEANINGS = {
    "spread": "spread over patients and heights: no other rule was shown to be better in our tests",
    "alike": "slices that look like many others",
    "unsure": "slices that look like many of which the model is unsure",
    "nearest-change": "slices from which most of the organ is near, by how much the picture changes",
}
"""Rule → what it does, for the terminal."""

AUTO = "spread"
"""--rule auto: no other rule was shown to be better (docs/explanation/results/outlining.md)."""
