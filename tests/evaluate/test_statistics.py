from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.evaluate import statistics
from frugalseg.evaluate.statistics import bootstrap_mean, summarise


def test_the_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(0.9, 0.03, size=400)
    low, high = bootstrap_mean(values, 20_000, seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_two_patients_have_the_interval_that_counting_gives():
    # The means of 2 draws from {0, 1} are 0, 1/2, 1 with odds 1:2:1, so the 2.5th percentile is 0.
    assert bootstrap_mean([0.0, 1.0], 5_000, 0) == (0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], 5_000, 0, level=0.4) == (0.5, 0.5)


def test_one_seed_gives_one_interval_in_pieces_too(monkeypatch):
    values = np.random.default_rng(3).random(37)
    whole = bootstrap_mean(values, 1_000, seed=5)
    assert whole == bootstrap_mean(values, 1_000, seed=5)
    assert whole != bootstrap_mean(values, 1_000, seed=6)
    monkeypatch.setattr(statistics, "CHUNK", 500)
    pieces = bootstrap_mean(values, 1_000, seed=5)
    assert pieces == pytest.approx(whole, abs=0.02)


def test_nan_is_left_out_and_counted():
    summary = summarise([0.5, float("nan"), 0.7], 1_000, 0)
    assert (summary.n, summary.left_out) == (2, 1)
    assert summary.mean == pytest.approx(0.6)
    assert summary.sd == pytest.approx(0.2 / math.sqrt(2))
    assert summary.ci95 == pytest.approx((0.5, 0.7))


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = summarise([0.5], 100, 0), summarise([float("nan")] * 3, 100, 0)
    assert (one.mean, one.ci95) == (0.5, None)
    assert math.isnan(one.sd)
    assert (none.n, none.left_out, none.ci95) == (0, 3, None)
    assert math.isnan(none.mean)
