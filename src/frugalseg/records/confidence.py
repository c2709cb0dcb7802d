"""How far masks may be trusted: parts of predictions.json and model.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frugalseg.options import Keep

ConfidenceSource = Literal["probabilities", "agreement", "propagation"]


@dataclass(frozen=True)
class SliceConfidence:
    """Confidence in the slices that a mask shows, inferior first; lists of one length, or empty if unknown.

    Attributes:
        slice: numbers of the slices, from 0 at the inferior end.
        confidence: 0…1; higher where the mask is better.
        expected_dice, lower_bound: see `OrganConfidence`.
    """

    slice: tuple[int, ...]
    confidence: tuple[float, ...]
    expected_dice: tuple[float, ...] = ()
    lower_bound: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("confidence", "expected_dice", "lower_bound"):
            if len(self.slice) != (given := len(getattr(self, name))) and (given or name == "confidence"):
                raise ValueError(f"slices: {len(self.slice)} slices, but {given} values of {name}")


@dataclass(frozen=True)
class OrganConfidence:
    """Confidence in the mask of one organ in one scan.

    Attributes:
        source: what it is computed from, see `confidence`.
        confidence: of the whole scan, 0…1.
        expected_dice: the Dice that such masks had on average on the validation patients; None without calibration.
        lower_bound: the Dice is above it in nine of ten scans; None without calibration, or if it is of too few
            patients.
        slices: the same slice by slice.
    """

    source: ConfidenceSource
    confidence: float
    expected_dice: float | None
    lower_bound: float | None
    slices: SliceConfidence


@dataclass(frozen=True)
class Promise:
    """From confidence to Dice, for whole scans or for slices. The shortfall of a mask is 1 − Dice.

    Attributes:
        masks: number of scans or slices that it is computed from.
        expected: mean shortfall, as a multiple of 1 − confidence.
        bound: shortfall that is not exceeded, as a multiple of 1 − confidence; None if there are too few patients.
        holds_for: the fraction of patients for which the bound holds; None without a bound.
    """

    masks: int
    expected: float
    bound: float | None
    holds_for: float | None


@dataclass(frozen=True)
class OrganCalibration:
    """Calibration of one organ's confidence on the validation patients.

    Attributes:
        level: of the bounds: the fraction of scans, or of a patient's slices, that lie above.
        patients: validation patients with a mask of the organ.
        keep: post-processing of the masks; with another the calibration does not apply.
        refined_by: signature of the promptable model that refined them, or None.
        scans, slices: what confidence promises.
    """

    level: float
    patients: int
    keep: Keep
    scans: Promise
    slices: Promise
    refined_by: str | None = None

    def __post_init__(self) -> None:
        if not (0 < self.level < 1 and self.patients > 0):
            raise ValueError(f"calibration: level {self.level}, patients {self.patients}")
