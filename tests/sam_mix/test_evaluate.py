from __future__ import annotations

import numpy as np
import pytest

from frugalseg.dataset.auroc import auroc
from frugalseg.sam_mix.evaluate import detection_figures, scan_probability


def by_pairs(probabilities, present):
    pairs = [(p, n) for p in probabilities[present] for n in probabilities[~present]]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.integers(0, 6, 40) / 5  # many ties
    present = rng.random(40) < 0.3
    assert auroc(probabilities, present) == pytest.approx(by_pairs(probabilities, present))


def test_figures_at_the_cut():
    figures = detection_figures(np.array([0.9, 0.5, 0.2, 0.7, 0.1]), np.array([True, True, True, False, False]))
    assert figures == {
        "auroc": pytest.approx(4 / 6),
        "accuracy": 3 / 5,
        "sensitivity": 2 / 3,
        "specificity": 1 / 2,
        "positives": 3,
        "negatives": 2,
    }


def test_without_positives_or_negatives_their_figures_are_none():
    figures = detection_figures(np.array([0.9, 0.2]), np.array([True, True]))
    assert (figures["auroc"], figures["specificity"], figures["sensitivity"]) == (None, None, 0.5)


def test_a_scans_probability_is_the_highest_of_its_slices():
    assert scan_probability(np.array([0.1, 0.8, 0.3])) == 0.8
