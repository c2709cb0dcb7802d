"""What a metric is worth where a mask is empty: the rules that the table of metrics chooses from.

A missed organ must never improve a mean, and a scan without the organ must not be a free 1.0. So: an organ in
neither mask is left out and counted; a missed organ costs the worst there is (Dice 0, distances the diagonal of the
image); an organ found where there is none has Dice and surface Dice 0 by their formulas, its volume is reported, and
its distances do not exist (there is no reference surface): left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(str, Enum):
    """Which of the two masks holds the organ."""

    BOTH = "both"
    MISSED = "missed"
    FALSE_POSITIVE = "false_positive"
    BOTH_EMPTY = "both_empty"

    @classmethod
    def of(cls, in_reference: bool, in_prediction: bool) -> Outcome:
        """The outcome, from whether either mask has any voxel."""
        if in_reference:
            return cls.BOTH if in_prediction else cls.MISSED
        return cls.FALSE_POSITIVE if in_prediction else cls.BOTH_EMPTY


OUTCOMES = {
    Outcome.BOTH: "organ in both masks",
    Outcome.MISSED: "organ in the reference, not in the prediction",
    Outcome.FALSE_POSITIVE: "organ in the prediction, not in the reference",
    Outcome.BOTH_EMPTY: "organ in neither mask",
}
"""Outcomes in words."""


class Rule(str, Enum):
    """Where a metric's value comes from."""

    COMPUTED = "computed"
    ZERO = "0"
    DIAGONAL = "image diagonal in mm"
    LEFT_OUT = "left out (NaN), counted"


@dataclass(frozen=True)
class EmptyMaskRules:
    """The rule of a metric for each outcome with an empty mask; where both masks hold the organ it is computed."""

    missed: Rule
    false_positive: Rule = Rule.LEFT_OUT
    both_empty: Rule = Rule.LEFT_OUT

    def of(self, outcome: Outcome) -> Rule:
        """The rule for an outcome."""
        return {
            Outcome.BOTH: Rule.COMPUTED,
            Outcome.MISSED: self.missed,
            Outcome.FALSE_POSITIVE: self.false_positive,
            Outcome.BOTH_EMPTY: self.both_empty,
        }[outcome]


OVERLAP = EmptyMaskRules(missed=Rule.ZERO, false_positive=Rule.ZERO)
"""Of a score whose worst is 0."""
DISTANCE = EmptyMaskRules(missed=Rule.DIAGONAL)
"""Of a distance in mm between two surfaces."""
DIFFERENCE = EmptyMaskRules(missed=Rule.COMPUTED, false_positive=Rule.COMPUTED)
"""Of a difference that exists as soon as either mask holds the organ."""
SHARE_OF_REFERENCE = EmptyMaskRules(missed=Rule.COMPUTED)
"""Of what is divided by the size of the reference."""
ALWAYS = EmptyMaskRules(missed=Rule.COMPUTED, false_positive=Rule.COMPUTED, both_empty=Rule.COMPUTED)
"""Of a size, which an empty mask has too: 0."""


def policy_line() -> str:
    """What overlap and distances are worth where a mask is empty, in one line, for a column of a table."""
    return "; ".join(
        f"{outcome.value}: dice {OVERLAP.of(outcome).value}, distances {DISTANCE.of(outcome).value}"
        for outcome in Outcome
        if outcome is not Outcome.BOTH
    )
