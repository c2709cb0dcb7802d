"""Which slices of one scan to outline so that its mask is best propagated.

A mask that is propagated from slice to slice goes wrong where the picture changes. The change between neighbouring
slices, added up along the scan, is therefore the distance over which the confidence falls; the best slice is the one
from which as much of the organ as possible is near, and the next one brings near what is still far.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.coverage import cover
from frugalseg.dataset.descriptors import Features
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, RunError
from frugalseg.suggestion.candidates import Rows
from frugalseg.suggestion.rules import Choice
from frugalseg.text import pluralize

Figures = npt.NDArray[np.float64]

CONFIDENCE_AT_END = 0.5
"""Without a propagation to learn from: the confidence at the end of the organ if propagated from its middle. It hardly
changes which slice is suggested."""


LEAST_AREA = 0.02
"""Slices whose mask is smaller, as a fraction of the largest, are taken for stray pixels."""


@dataclass(frozen=True)
class PropagatedSlices:
    """What `frugalseg propagate` wrote about one scan.

    Attributes:
        confidence: (Z,) of each slice, the mean over organs weighted by area; 0 where no mask is.
        area: (Z,) of the masks, mm².
        annotated: slices that a person outlined.
    """

    confidence: Figures
    area: Figures
    annotated: npt.NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path, case: str, slices: int) -> PropagatedSlices:
        """Read <case>.slices.csv.

        Raises:
            OptionError: the scan was not propagated there.
            RunError: the file is damaged, or of a scan with more slices.
        """
        path = folder / f"{case}.slices.csv"
        if not path.is_file():
            raise OptionError(
                f"--propagated {folder} has no {path.name}", "give the --out of `frugalseg propagate` for this scan"
            )
        area, sure, annotated = np.zeros(slices), np.zeros(slices), set()
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    z, size = int(row["slice"]), float(row["area_mm2"])
                    area[z] += size
                    sure[z] += size * float(row["confidence"])
                    annotated |= {z} if row["source"] == "annotated" else set()
        except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise RunError(f"{path} is damaged ({type(error).__name__}: {error})", "propagate again") from error
        confidence = np.divide(sure, area, out=np.zeros(slices), where=area > 0)
        return cls(confidence, area, np.array(sorted(annotated), np.int64))


def weigh_slices(area: Figures) -> Figures:
    """1 for slices (Z,) that show the organ, by the area of a mask, else 0; all 1 for an empty mask.

    All of the organ's slices count equally: weighted by area, the suggested slice is too near the largest one, from
    which propagation goes less well (docs/explanation/results/outlining.md).
    """
    if not area.any():
        return np.ones(len(area))
    weights: Figures = (area >= LEAST_AREA * area.max()).astype(np.float64)
    return weights


def choose_for_mask(
    rows: Rows, features: Features, count: int, weights: Figures, known: PropagatedSlices | None
) -> list[Choice]:
    """Slices of a scan to outline, most useful first.

    Args:
        rows: (Z,) of the store, from bottom to top.
        features: (Z, D) of these slices.
        count: number of slices; fewer are chosen where the organ has fewer.
        weights: (Z,) importance of each slice, not all 0 (see `weigh_slices`).
        known: an earlier propagation; None if nothing is outlined.

    Raises:
        OptionError: every slice of the organ is outlined.
    """
    weight = weights / weights.sum()
    change = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(features, axis=0), axis=1))])
    between = np.abs(change[:, None] - change[None])
    sure = np.exp(-_rate_of_decay(change, weight, known) * between)
    now = np.zeros(len(rows)) if known is None else known.confidence
    open_slices = np.flatnonzero(weight > 0)
    if known is not None:
        open_slices = np.setdiff1d(open_slices, known.annotated)
    if len(open_slices) == 0:
        raise OptionError(
            "nothing is left to outline: every slice of the organ in this scan is", "check the propagation"
        )
    if count > len(open_slices):
        say(f"only {pluralize(len(open_slices), 'slice')} of the organ without an outline: fewer than --budget {count}")
    picks = cover(1 - sure[open_slices], 1 - now, weight, count)
    choices: list[Choice] = []
    mean = float(weight @ now)
    for pick in picks:
        z = int(open_slices[pick.index])
        after = mean + pick.gain
        reason = f"raises the mean confidence of the mask from {mean:.2f} to about {after:.2f}"
        if not choices and known is None:
            reason = f"most of the organ is near: propagated from here, mean confidence about {after:.2f}"
        choices.append(Choice(int(rows[z]), reason, pick.represents))
        mean = after
    return choices


def _rate_of_decay(change: Figures, weight: Figures, known: PropagatedSlices | None) -> float:
    """By how much the logarithm of the confidence falls per unit of change: as in the earlier propagation, else so that
    it is `CONFIDENCE_AT_END` at the organ's ends."""
    if known is not None and len(known.annotated):
        away = np.abs(change[:, None] - change[known.annotated][None]).min(axis=1)
        seen = (known.confidence > 0) & (away > 0)
        if seen.any():
            return float(np.median(-np.log(known.confidence[seen].clip(1e-3, 1)) / away[seen]))
    extent = np.ptp(change[weight > 0])
    return float(-np.log(CONFIDENCE_AT_END) / max(extent / 2, np.finfo(float).tiny))
