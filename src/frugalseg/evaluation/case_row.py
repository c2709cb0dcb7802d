"""One row of cases.csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frugalseg.evaluation.policy import Outcome


@dataclass(frozen=True)
class CaseRow:
    """One organ of one scan; `row["dice"]` is one of its figures.

    Attributes:
        role: how the model used the scan (see `roles`).
        outcome: which of the masks holds the organ.
        figures: metric → value (see `metrics.OrganMetrics` and `slicewise.SliceMetrics`).
    """

    case: str
    role: str
    organ: str
    outcome: Outcome
    figures: Mapping[str, float]

    def __getitem__(self, metric: str) -> float:
        return self.figures[metric]

    def to_dict(self) -> dict[str, str | float]:
        """The row as column → value."""
        return {
            "case": self.case,
            "role": self.role,
            "organ": self.organ,
            "outcome": self.outcome.value,
            **self.figures,
        }
