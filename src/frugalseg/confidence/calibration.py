"""From confidence to Dice: the expected Dice and a lower bound, learned on validation patients.

The shortfall of a mask, 1 − Dice, is taken to be a multiple of 1 − confidence: one number for the mean, one for the
bound, so that two patients are enough to fit the mean, and neither can fall while the confidence rises.

The bound is conformal (Vovk et al., Algorithmic Learning in a Random World, 2005; split conformal as in arXiv
1604.04173): the multiples of n validation patients and that of a new one are exchangeable, so the new one is above the
r-th largest of n with a probability of at most r / (n + 1). Slices of one patient are alike and not exchangeable with
those of another. A patient therefore counts once: with its worst scan, and for slices with the multiple that 90% of its
own slices stay below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugalseg.confidence.overlap import Floats, Overlap
from frugalseg.options import Keep
from frugalseg.records.confidence import OrganCalibration, Promise

LEVEL = 0.9
"""The fraction of scans, or of a patient's slices, that lie above the lower bound."""

SCANS_NEEDED = math.ceil(round(LEVEL / (1 - LEVEL), 6))
"""Patients needed for a bound of a new scan at `LEVEL`: with fewer even the worst of them is exceeded too often."""

SMALLEST_DOUBT = 0.005
"""Least 1 − confidence: a smaller one is rounding, and would make any multiple of it meaningless."""


@dataclass(frozen=True, eq=False)
class ScoredMask:
    """A validation patient's mask of one organ in one scan.

    Attributes:
        patient: its id.
        own: overlap from which the confidence is computed.
        true: overlap with the reference.
    """

    patient: str
    own: Overlap
    true: Overlap


def calibrate(masks: Sequence[ScoredMask], keep: Keep, level: float = LEVEL) -> OrganCalibration | None:
    """The calibration of one organ; None where no mask shows it.

    Args:
        masks: of the validation scans, in any order; empty masks have no confidence, and are left out.
        keep: their post-processing.
        level: of the bounds.
    """
    shown = [mask for mask in masks if mask.own.mask.any()]
    if not shown:
        return None
    patients = list(dict.fromkeys(mask.patient for mask in shown))
    scans = [_pairs([m for m in shown if m.patient == patient], whole=True) for patient in patients]
    slices = [_pairs([m for m in shown if m.patient == patient], whole=False) for patient in patients]
    return OrganCalibration(level, len(patients), keep, _promise_scans(scans, level), _promise_slices(slices, level))


def expect(confidence: Floats | float, promise: Promise) -> Floats:
    """The expected Dice, 0…1."""
    return _apply(promise.expected, confidence)


def bound(confidence: Floats | float, promise: Promise) -> Floats | None:
    """The lower bound of the Dice, 0…1, or None."""
    return None if promise.bound is None else _apply(promise.bound, confidence)


def find_bound(multiples: Sequence[float], level: float, at_least: int = 0) -> tuple[float, float] | None:
    """The multiple that a new patient's exceeds rarely enough, and the fraction of patients below it.

    Args:
        multiples: one of each patient.
        level: fraction of new patients that are to be below.
        at_least: rank from the largest that is taken where `level` cannot be reached; 0 for none.

    Returns:
        None where there are too few patients.
    """
    count = len(multiples) + 1
    rank = max(math.floor(round((1 - level) * count, 6)), at_least)
    return (float(sorted(multiples, reverse=True)[rank - 1]), 1 - rank / count) if rank else None


def _apply(multiple: float, confidence: Floats | float) -> Floats:
    return np.clip(1 - multiple * _doubt(np.asarray(confidence, dtype=np.float64)), 0.0, 1.0)


def _doubt(confidence: Floats) -> Floats:
    """1 − confidence, not below `SMALLEST_DOUBT`."""
    return np.maximum(1 - confidence, SMALLEST_DOUBT)


def _pairs(masks: Sequence[ScoredMask], whole: bool) -> Floats:
    """(n, 2) doubt and shortfall of a patient's scans, or of their slices."""
    if whole:
        pairs = np.array([(mask.own.dice_of_scan(), mask.true.dice_of_scan()) for mask in masks])
    else:
        pairs = np.concatenate([np.stack([m.own.dice_of_slices(), m.true.dice_of_slices()], axis=1) for m in masks])
    return np.stack([_doubt(pairs[:, 0]), 1 - pairs[:, 1]], axis=1)


def _promise_scans(patients: Sequence[Floats], level: float) -> Promise:
    return _promise(patients, find_bound([_multiples(pairs).max() for pairs in patients], level))


def _promise_slices(patients: Sequence[Floats], level: float) -> Promise:
    own = [float(np.quantile(_multiples(pairs), level, method="inverted_cdf")) for pairs in patients]
    return _promise(patients, find_bound(own, level, at_least=1))


def _promise(patients: Sequence[Floats], found: tuple[float, float] | None) -> Promise:
    limit, share = (None, None) if found is None else found
    means = np.mean([pairs.mean(axis=0) for pairs in patients], axis=0)  # a patient of many slices counts once
    return Promise(sum(map(len, patients)), float(means[1] / means[0]), limit, share)


def _multiples(pairs: Floats) -> Floats:
    multiples: Floats = pairs[:, 1] / pairs[:, 0]
    return multiples
