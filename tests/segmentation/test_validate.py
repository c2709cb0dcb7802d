from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from frugalseg.engine import progress
from frugalseg.segmentation.validate import ValidationSet, dice_per_class


def test_dice_per_class_over_a_volume():
    reference = np.array([[0, 1, 1, 2], [0, 0, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 2, 2], [1, 0, 1, 0]], np.uint8)
    assert dice_per_class(predicted, reference, 2) == pytest.approx([2 * 2 / 6, 2 * 1 / 4])


def test_a_missed_organ_is_zero_and_an_absent_one_does_not_count():
    empty, full = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
    assert math.isnan(dice_per_class(empty, empty, 1)[0])
    assert math.isnan(dice_per_class(full, empty, 1)[0])
    assert dice_per_class(empty, full, 1) == [0.0]
    assert dice_per_class(full, full, 1) == [1.0]


class Known:
    """A validation set whose volumes and predictions are given."""

    def __init__(self, pairs):
        self.pairs = pairs

    def predict(self, _, case):
        return self.pairs[case]


def test_validation_decides_what_to_keep_organ_by_organ():
    """Class 1 gains from its largest component, class 2 is two organs and would lose one."""
    reference = np.zeros((6, 16, 16), np.uint8)
    reference[1:5, 2:8, 2:8] = 1
    reference[1:5, 10:13, 2:5] = reference[1:5, 10:13, 10:12] = 2
    predicted = reference.copy()
    predicted[2, 14:16, 14:16] = 1
    known = Known({"a": (predicted, reference), "b": (predicted, reference)})
    store = SimpleNamespace(
        targets={"liver": (6,), "kidneys": (2, 3)}, slices=pd.DataFrame({"case": ["a"] * 6 + ["b"] * 6})
    )
    validation = ValidationSet(store, None, {"a": range(6), "b": range(6)}, "32")
    object.__setattr__(validation, "predict", known.predict)
    assert validation.choose_keep(None, ("all", "largest")) == {"liver": "largest", "kidneys": "all"}
    # Single labelled slices of a scan say nothing about its components in 3D.
    parts = ValidationSet(store, None, {"a": range(5), "b": range(2)}, "32")
    assert parts.choose_keep(None, ("all", "largest")) == {"liver": "all", "kidneys": "all"}


def test_a_single_candidate_is_kept_without_predicting():
    store = SimpleNamespace(targets={"liver": (6,), "kidneys": (2, 3)})
    asked = ValidationSet(store, None, {"a": None}, "32")  # without a source it could not look at the volume
    assert asked.choose_keep(None, ("all",)) == {"liver": "all", "kidneys": "all"}


def test_a_validation_shows_its_progress():
    """Scan by scan, below the training it belongs to."""
    seen = []
    empty = np.zeros((2, 3), np.uint8)
    store = SimpleNamespace(targets={"liver": (6,)})
    validation = ValidationSet(store, None, {"a": None, "b": None}, "32")

    def predict(_, case):
        seen.append([line() for line in progress._activities])
        return empty, empty

    object.__setattr__(validation, "predict", predict)
    with progress.progress("training", 9, "steps"):
        validation.dice(None)
    training = "training: 0 of 9 steps, 0:00"
    assert seen == [[training, f"validation: {n} of 2 scans, 0:00"] for n in (0, 1)]
