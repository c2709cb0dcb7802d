from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.segment.validate import dice_per_class


def test_dice_per_class_over_a_volume():
    reference = np.array([[0, 1, 1, 2], [0, 0, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 2, 2], [1, 0, 1, 0]], np.uint8)
    assert dice_per_class(predicted, reference, 2) == pytest.approx([2 * 2 / 6, 2 * 1 / 4])


def test_missed_is_zero_and_an_absent_organ_does_not_choose():
    empty, full = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
    assert math.isnan(dice_per_class(empty, empty, 1)[0])
    assert math.isnan(dice_per_class(full, empty, 1)[0])
    assert dice_per_class(empty, full, 1) == [0.0]
    assert dice_per_class(full, full, 1) == [1.0]
