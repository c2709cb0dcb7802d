"""The confidence of one organ's mask, as predictions.json has it."""

from __future__ import annotations

import numpy as np

from frugalseg.confidence.calibration import bound, expect
from frugalseg.confidence.overlap import Floats, Overlap
from frugalseg.records.confidence import ConfidenceSource, OrganCalibration, OrganConfidence, SliceConfidence

DIGITS = 3


def assess(overlap: Overlap, source: ConfidenceSource, calibration: OrganCalibration | None) -> OrganConfidence | None:
    """The confidence of a mask, scan and slices; None for an empty mask, which promises nothing.

    Args:
        overlap: of the mask with what it is compared with.
        source: what that is.
        calibration: of confidences from the same source; None: there is only the confidence, to sort by.
    """
    if not overlap.mask.any():
        return None
    whole, single = overlap.dice_of_scan(), overlap.dice_of_slices()
    slices = SliceConfidence(tuple(overlap.slices.tolist()), _round(single))
    if calibration is None:
        return OrganConfidence(source, round(whole, DIGITS), None, None, slices)
    expected, lowest = expect(single, calibration.slices), bound(single, calibration.slices)
    slices = SliceConfidence(slices.slice, slices.confidence, _round(expected), _round(lowest))
    promised = (_round(expect(whole, calibration.scans)), _round(bound(whole, calibration.scans)))
    expected_dice, lower_bound = (figures[0] if figures else None for figures in promised)
    return OrganConfidence(source, round(whole, DIGITS), expected_dice, lower_bound, slices)


def _round(values: Floats | None) -> tuple[float, ...]:
    return () if values is None else tuple(np.round(np.atleast_1d(values), DIGITS).tolist())
