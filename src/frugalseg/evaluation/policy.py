"""Values of metrics where a mask is empty: the rules that the table of metrics chooses from.

A missed organ must never improve a mean, and a scan without the organ must not score 1.0. So: a scan with the organ
in neither mask is left out and counted; a missed organ gets the worst possible value (Dice 0, for distances the
diagonal of the image); a false positive has Dice and surface Dice 0 by their formulas, its volume is reported, and
its distances are undefined (there is no reference surface), so they are left out and counted.
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
    def from_presence(cls, in_reference: bool, in_prediction: bool) -> Outcome:
        """The outcome, from whether the organ is in the reference and in the prediction."""
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
    """The source of a metric's value."""

    COMPUTED = "computed"
    ZERO = "0"
    DIAGONAL = "image diagonal in mm"
    LEFT_OUT = "left out (NaN), counted"


@dataclass(frozen=True)
class EmptyMaskRules:
    """The rule of a metric for each outcome with an empty mask; if both masks hold the organ it is computed."""

    missed: Rule
    false_positive: Rule = Rule.LEFT_OUT
    both_empty: Rule = Rule.LEFT_OUT

    def rule_for(self, outcome: Outcome) -> Rule:
        """The rule for an outcome."""
        return {
            Outcome.BOTH: Rule.COMPUTED,
            Outcome.MISSED: self.missed,
            Outcome.FALSE_POSITIVE: self.false_positive,
            Outcome.BOTH_EMPTY: self.both_empty,
        }[outcome]


OVERLAP = EmptyMaskRules(missed=Rule.ZERO, false_positive=Rule.ZERO)
"""For scores whose worst value is 0."""
DISTANCE = EmptyMaskRules(missed=Rule.DIAGONAL)
"""For distances in mm between two surfaces."""
DIFFERENCE = EmptyMaskRules(missed=Rule.COMPUTED, false_positive=Rule.COMPUTED)
"""For differences, which are defined if either mask holds the organ."""
SHARE_OF_REFERENCE = EmptyMaskRules(missed=Rule.COMPUTED)
"""For values divided by the size of the reference."""
ALWAYS = EmptyMaskRules(missed=Rule.COMPUTED, false_positive=Rule.COMPUTED, both_empty=Rule.COMPUTED)
"""For sizes, which are 0 for an empty mask."""


def format_policy() -> str:
    """The values of overlap and distances where a mask is empty, in one line, for a column of a table."""
    return "; ".join(
        f"{outcome.value}: dice {OVERLAP.rule_for(outcome).value}, distances {DISTANCE.rule_for(outcome).value}"
        for outcome in Outcome
        if outcome is not Outcome.BOTH
    )
