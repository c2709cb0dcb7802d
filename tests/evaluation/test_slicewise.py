from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.evaluation.slicewise import (
    POLYCL_MIDDLE,
    compare_slices,
    dice_slice_smooth1,
    hd_slice_px,
    middle_range,
    pool_slices,
)


@pytest.fixture
def stacks():
    """Four slices: right, empty in both, missed, a stray pixel."""
    reference, prediction = np.zeros((4, 16, 16), bool), np.zeros((4, 16, 16), bool)
    reference[0, 4:8, 4:8] = prediction[0, 4:8, 4:8] = True
    reference[2, 4:8, 4:8] = True
    prediction[3, 9, 9] = True
    return reference, prediction


def test_dice_with_smooth_1_counts_empty_slices_as_the_papers_do(stacks):
    assert dice_slice_smooth1(*stacks) == pytest.approx([1.0, 1.0, 1 / 17, 0.5])


def test_hausdorff_in_pixels_skips_missed_and_empty_slices_and_looks_both_ways(stacks):
    reference, prediction = stacks
    assert np.isnan(hd_slice_px(*stacks)).tolist() == [False, True, True, True]
    prediction[0, 7, 11] = True
    for pair in ((reference, prediction), (prediction, reference)):
        assert hd_slice_px(*pair)[0] == 4.0


def test_decimals_are_kept():
    a, b = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    a[0, 1, 1] = b[0, 2, 4] = True
    assert hd_slice_px(a, b)[0] == pytest.approx(10**0.5)


def test_detection_of_slices_and_counts(stacks):
    figures = compare_slices(*stacks)
    assert (figures.slice_precision, figures.slice_recall) == (0.5, 0.5)
    assert (figures.slices, figures.slices_hd, figures.hd_slice_px) == (4, 1, 0.0)
    empty = compare_slices(np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool))
    assert empty.dice_slice_smooth1 == 1.0
    assert all(math.isnan(v) for v in (empty.hd_slice_px, empty.slice_precision, empty.slice_recall))


@pytest.mark.parametrize(("count", "expected"), [(10, (3, 6)), (11, (4, 7)), (1, (0, 1)), (100, (35, 65))])
def test_the_middle_slices(count, expected):
    assert middle_range(count, POLYCL_MIDDLE) == slice(*expected)


def test_pooling_weighs_slices_not_scans(stacks):
    long = compare_slices(*(np.concatenate([s, np.zeros((16, 16, 16), bool)]) for s in stacks)).to_dict()
    short = compare_slices(*(s[2:3] for s in stacks)).to_dict()
    pooled = pool_slices([long, short])
    joined = np.concatenate([stacks[0], np.zeros((16, 16, 16), bool), stacks[0][2:3]])
    other = np.concatenate([stacks[1], np.zeros((16, 16, 16), bool), stacks[1][2:3]])
    assert pooled["dice_slice_smooth1"] == pytest.approx(dice_slice_smooth1(joined, other).mean())
    assert pooled["slice_recall"] == pytest.approx(1 / 3)
    assert pooled["slice_precision"] == pytest.approx(1 / 2)
