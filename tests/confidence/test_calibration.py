"""The promise of the bounds on simulated patients, and the shape of the calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.confidence.calibration import LEVEL, SCANS_NEEDED, ScoredMask, bound, calibrate, expect, find_bound
from frugalseg.confidence.overlap import Overlap

TRIALS = 1200


def scored(patient: str, confidence, dice) -> ScoredMask:
    """A mask of 100 pixels a slice with these confidences and Dice, slice by slice."""
    confidence, dice = np.atleast_1d(confidence), np.atleast_1d(dice)
    pixels = np.full(len(confidence), 100.0)
    return ScoredMask(patient, Overlap(pixels, 100 * confidence, pixels), Overlap(pixels, 100 * dice, pixels))


def draw_patient(rng: np.random.Generator, patient: str, slices: int = 12) -> ScoredMask:
    """A patient whose slices err alike: a multiple of his own, and a smaller one of each slice."""
    doubt = rng.uniform(0.02, 0.3, slices)
    multiple = rng.lognormal(0.0, 0.5) * rng.lognormal(0.0, 0.3, slices)
    return scored(patient, 1 - doubt, np.clip(1 - multiple * doubt, 0, 1))


def measure(count: int, judge) -> float:
    """How often `judge` finds the promise kept for a new patient after calibration on `count`."""
    rng = np.random.default_rng(count)
    kept = []
    for _ in range(TRIALS):
        known = [draw_patient(rng, str(number)) for number in range(count)]
        calibration = calibrate(known, "all")
        assert calibration is not None
        kept.append(judge(calibration, draw_patient(rng, "new")))
    return float(np.mean(kept))


def noise(share: float) -> float:
    """By how much a measured share may differ from the true one by chance."""
    return 3.5 * math.sqrt(share * (1 - share) / TRIALS)


def scan_is_above(calibration, new) -> bool:
    lowest = bound(new.own.dice_of_scan(), calibration.scans)
    return bool(new.true.dice_of_scan() >= lowest)


def slices_are_above(calibration, new) -> bool:
    lowest = bound(new.own.dice_of_slices(), calibration.slices)
    return bool(np.mean(new.true.dice_of_slices() >= lowest) >= LEVEL)


@pytest.mark.parametrize(("count", "rank"), [(9, 1), (19, 2)])
def test_nine_of_ten_new_scans_are_above_their_bound(count, rank):
    """Exactly r of n + 1: without the + 1 the bound of 19 patients would be their worst, and that of 9 missing."""
    share = measure(count, scan_is_above)
    assert share == pytest.approx(1 - rank / (count + 1), abs=noise(LEVEL))
    assert share >= LEVEL - noise(LEVEL)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_nine_of_ten_slices_are_above_their_bound_in_the_promised_share_of_patients(count):
    promised = find_bound([1.0] * count, LEVEL, at_least=1)
    assert promised is not None
    assert promised[1] == pytest.approx(1 - 1 / (count + 1))
    assert measure(count, slices_are_above) == pytest.approx(promised[1], abs=noise(promised[1]))


def test_the_plain_quantile_of_the_patients_would_break_the_promise():
    """What the correction for few patients is for."""

    def judge(multiples, new):
        return new <= np.quantile(multiples, LEVEL, method="inverted_cdf")

    rng = np.random.default_rng(0)
    kept = [judge(rng.lognormal(size=10), rng.lognormal()) for _ in range(TRIALS)]
    assert np.mean(kept) < LEVEL - noise(LEVEL)
    corrected = [find_bound(list(rng.lognormal(size=10)), LEVEL) for _ in range(TRIALS)]
    assert np.mean([rng.lognormal() <= found[0] for found in corrected if found]) >= LEVEL - noise(LEVEL)


def test_too_few_patients_have_no_bound_for_scans_but_one_for_slices():
    for count in range(1, SCANS_NEEDED):
        calibration = calibrate([scored(str(n), [0.9, 0.8], [0.85, 0.7]) for n in range(count)], "core")
        assert calibration is not None
        assert (calibration.patients, calibration.keep) == (count, "core")
        assert calibration.scans.bound is calibration.scans.holds_for is None
        assert bound(0.9, calibration.scans) is None
        assert calibration.slices.holds_for == pytest.approx(count / (count + 1))
    assert SCANS_NEEDED == 9
    assert find_bound([1.0] * 8, LEVEL) is None
    assert find_bound([*range(1, 10)], LEVEL) == (9, pytest.approx(0.9))


def test_scans_and_slices_of_one_patient_count_as_one_patient():
    """A patient of many scans or slices neither makes up for others nor outweighs them."""
    few = [scored("a", [0.9], [0.8]), scored("b", [0.9], [0.9])]
    many = [*(few[:1] * 20), few[1]]
    assert calibrate(few, "all").patients == calibrate(many, "all").patients == 2
    assert calibrate(few, "all").scans.expected == pytest.approx(calibrate(many, "all").scans.expected)
    long = [scored("a", [0.9] * 50, [0.8] * 50), few[1]]
    assert calibrate(long, "all").slices.expected == pytest.approx(calibrate(few, "all").slices.expected)
    assert (calibrate(long, "all").slices.masks, calibrate(long, "all").scans.masks) == (51, 2)


def test_a_patient_counts_with_his_worst_scan():
    masks = [scored(str(n), [0.9], [0.9]) for n in range(8)] + [scored("8", [0.9], [0.9]), scored("8", [0.9], [0.5])]
    assert bound(0.9, calibrate(masks, "all").scans) == pytest.approx(0.5)


def test_the_expected_dice_is_that_of_the_patients_on_average():
    calibration = calibrate([scored("a", [0.9], [0.7]), scored("b", [0.8], [0.7])], "all")
    assert expect(0.85, calibration.scans) == pytest.approx(1 - 2 * 0.15)
    assert expect(1.0, calibration.scans) > 0.98


def test_expected_dice_and_bound_rise_with_the_confidence_and_stay_in_range():
    rng = np.random.default_rng(3)
    calibration = calibrate([draw_patient(rng, str(n)) for n in range(12)], "all")
    confidence = np.linspace(0, 1, 101)
    for promise in (calibration.scans, calibration.slices):
        for figures in (expect(confidence, promise), bound(confidence, promise)):
            assert (np.diff(figures) >= 0).all()
            assert np.diff(figures).max() > 0
            assert 0 <= figures.min()
            assert figures.max() <= 1
        assert (bound(confidence, promise) <= expect(confidence, promise)).all()


def test_empty_masks_are_left_out_and_a_false_positive_has_dice_0():
    nothing = Overlap(np.zeros(2), np.zeros(2), np.full(2, 9.0))
    assert calibrate([ScoredMask("a", nothing, nothing)], "all") is None
    false_positive = ScoredMask(
        "b",
        Overlap(np.array([10.0]), np.array([9.0]), np.array([10.0])),
        Overlap.between(np.ones((1, 2, 5), bool), np.zeros((1, 2, 5), bool)),
    )
    calibration = calibrate([ScoredMask("a", nothing, nothing), false_positive], "all")
    assert calibration.patients == 1
    assert expect(0.9, calibration.scans) == 0
