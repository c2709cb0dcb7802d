"""suggestions.json: which slices to outline next, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.record import Record

SUGGESTIONS_FILE = "suggestions.json"


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One slice to outline.

    Attributes:
        case, patient: its scan.
        image: path of the scan.
        slice: its number, from 0 at the inferior end, as in `propagate --slices`.
        slices: number of slices of the scan.
        reason: why this slice, for a person.
        represents: fraction, 0…1, of what is left (slices, or expected errors of the model) that looks more like this
            slice than like any before it; None where the rule does not compare slices.
        confidence: Dice that the model expects of its mask of this slice, 0…1; None without a model, or where neither
            the mask nor the probabilities show an organ.
    """

    case: str
    patient: str
    image: str
    slice: int
    slices: int
    reason: str
    represents: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class BudgetForecast:
    """What more outlined slices are expected to bring, from the curve of a study.

    Attributes:
        method, organ, test: of the study.
        outlined: outlined slices now.
        more: further ones.
        gain: expected difference in Dice.
        low, high: its 95 % interval; None where the study has too few runs and patients.
    """

    method: str
    organ: str
    test: str
    outlined: int
    more: int
    gain: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class SuggestionsRecord(Record):
    """Suggestions for one store.

    Attributes:
        version: version of frugalseg.
        purpose: what the outlines are for: a model, or the mask of one scan.
        data: the slice store.
        model: the run whose model was asked, or None.
        targets: organ → label values in the masks to be drawn.
        rule: the rule used: spread, alike, unsure, or nearest-change (for a mask).
        candidates: slices that could have been suggested.
        suggestions: most useful first.
        forecasts: what they are expected to bring, one per organ and test set of the study.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "run `frugalseg suggest` again with --overwrite"

    version: str = ""
    purpose: Literal["model", "mask"]
    data: str
    model: str | None = None
    targets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rule: str
    candidates: int
    suggestions: tuple[Suggestion, ...]
    forecasts: tuple[BudgetForecast, ...] = ()
