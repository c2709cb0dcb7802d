from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.evaluate import statistics
from frugalseg.evaluate.statistics import (
    bootstrap_mean,
    bootstrap_runs_and_patients,
    holm,
    mean_without_nan,
    signed_rank,
    summarise,
    summarise_runs,
)

NAN = float("nan")


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


def one_draw(seeds):
    return [(0, seed) for seed in range(seeds)]


def test_runs_and_patients_together_are_as_uncertain_as_theory_says():
    rng = np.random.default_rng(0)
    runs, patients = rng.normal(0, 0.02, size=12), rng.normal(0.9, 0.05, size=60)
    scores = runs[:, None] + patients  # no interaction: the variances of the two means add up
    low, high = bootstrap_runs_and_patients(scores, one_draw(12), 40_000, seed=1)
    half = 1.96 * math.sqrt(runs.var() / 12 + patients.var() / 60)
    assert low == pytest.approx(scores.mean() - half, abs=0.06 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.06 * half)


def test_runs_that_differ_widen_the_interval_that_patients_alone_would_give():
    scores = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert bootstrap_mean(scores.mean(axis=0), 2_000, 0) == (0.5, 0.5)
    assert bootstrap_runs_and_patients(scores, one_draw(2), 2_000, 0) == (0.0, 1.0)


def test_one_run_leaves_the_patients_interval():
    values = np.random.default_rng(2).random(30)
    both, patients = (
        bootstrap_runs_and_patients(values[None], [(3, 7)], 20_000, 0),
        bootstrap_mean(values, 20_000, 0),
    )
    assert both == pytest.approx(patients, abs=0.005)


GRID = list(itertools.product(range(2), range(3)))
"""Two draws of the labels × three seeds."""


def test_draws_are_drawn_whole():
    # Six independent runs would hardly ever all be of one draw; of two draws, one is drawn twice half of the time.
    scores = np.array([[float(draw)] * 4 for draw, _ in GRID])
    assert bootstrap_runs_and_patients(scores, GRID, 2_000, 0) == (0.0, 1.0)
    low, high = bootstrap_runs_and_patients(scores, one_draw(6), 2_000, 0)
    assert 0.1 < low < high < 0.9


def test_seeds_are_drawn_whole():
    # A seed's mean is over both draws, and the three are drawn in 27 ways: all alike in one, so 0 and 1 lie 3.7% out.
    scores = np.array([[float(seed == 2)] * 4 for _, seed in GRID])
    assert bootstrap_runs_and_patients(scores, GRID, 4_000, 0, level=0.9) == pytest.approx((0.0, 2 / 3))
    assert bootstrap_runs_and_patients(scores, GRID, 4_000, 0, level=0.94) == pytest.approx((0.0, 1.0))


def test_the_interval_holds_the_truth_more_often_than_if_runs_were_independent():
    rng = np.random.default_rng(1)
    crossed = independent = 0
    for _ in range(300):
        draws, seeds = rng.normal(0, 0.02, (2, 1, 1)), rng.normal(0, 0.01, (1, 3, 1))
        scores = draws + seeds + rng.normal(0, 0.02, (1, 1, 12)) + rng.normal(0, 0.02, (2, 3, 12))
        for runs in (GRID, one_draw(6)):
            low, high = bootstrap_runs_and_patients(scores.reshape(6, 12), runs, 400, 0)
            crossed += runs is GRID and low <= 0 <= high
            independent += runs is not GRID and low <= 0 <= high
    assert crossed / 300 > 0.78  # still not 0.95: two draws are few
    assert crossed - independent > 0.05 * 300


def test_nan_is_left_out_of_runs_and_patients():
    scores = np.array([[0.5, NAN, 0.7, NAN], [0.5, 0.6, 0.7, NAN]])
    low, high = bootstrap_runs_and_patients(scores, one_draw(2), 2_000, 0)
    assert 0.5 <= low < high <= 0.7
    assert bootstrap_runs_and_patients(np.array([[0.5, NAN], [0.6, NAN]]), one_draw(2), 100, 0) is None
    assert bootstrap_runs_and_patients(np.empty((0, 4)), [], 100, 0) is None
    without = bootstrap_runs_and_patients(scores, one_draw(2), 500, 0)
    unscored = np.vstack([scores, np.full((1, 4), NAN)])
    assert bootstrap_runs_and_patients(unscored, [*one_draw(2), (1, 0)], 500, 0) == without
    with pytest.raises(ValueError, match="2 rows of scores for 3 runs"):
        bootstrap_runs_and_patients(scores, one_draw(3), 100, 0)


def test_runs_are_summarised_by_hand():
    summary = summarise_runs(np.array([[0.8, 0.6], [0.9, 0.7], [1.0, NAN]]), one_draw(3), 500, 0)
    assert (summary.runs, summary.patients) == (3, 2)
    assert summary.mean == pytest.approx((0.7 + 0.8 + 1.0) / 3)
    assert summary.sd == pytest.approx(np.std([0.7, 0.8, 1.0], ddof=1))
    assert summary.ci95 == pytest.approx((0.65, 0.9))
    nothing = summarise_runs(np.empty((0, 5)), [])
    assert (nothing.runs, nothing.patients, nothing.ci95, nothing.ci95_runs) == (0, 0, None, None)
    assert math.isnan(nothing.mean)
    assert math.isnan(summarise_runs(np.array([[0.5, 0.6]]), one_draw(1), 100).sd)


def test_means_without_nan():
    means = mean_without_nan(np.array([[1.0, NAN], [NAN, NAN]]), axis=1)
    assert means[0] == 1.0
    assert math.isnan(means[1])


def enumerated_p(differences):
    """Two-sided p of the signed-rank sum by trying every sign."""
    ranks = scipy.stats.rankdata(np.abs(differences))
    observed = ranks[np.asarray(differences) > 0].sum()
    sums = np.array([ranks[list(s)].sum() for s in itertools.product([False, True], repeat=len(differences))])
    return min(1.0, 2 * min((sums >= observed).mean(), (sums <= observed).mean()))


@pytest.mark.parametrize(
    "differences",
    [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, -0.2, 0.3, 0.4, 0.05], [0.1, 0.1, -0.1, 0.2, 0.3, 0.2, 0.4]],
    ids=["one side", "mixed", "tied"],
)
def test_the_signed_rank_p_is_what_trying_every_sign_gives(differences):
    assert signed_rank(differences).p == pytest.approx(enumerated_p(differences))


def test_zeros_are_left_out_of_the_ranking_and_counted():
    with_zeros = signed_rank([0.0, 0.1, 0.2, 1e-15, -0.3, 0.4, 0.5, NAN])
    assert (with_zeros.n, with_zeros.zeros) == (7, 2)
    assert with_zeros.p == signed_rank([0.1, 0.2, -0.3, 0.4, 0.5]).p


def test_many_patients_agree_with_scipy():
    differences = np.random.default_rng(1).normal(0.01, 0.05, size=70)
    assert signed_rank(differences).p == scipy.stats.wilcoxon(differences).pvalue


def test_too_few_patients_can_never_reach_five_percent_and_it_says_so():
    five, six = signed_rank([0.5] * 5), signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert five.p == five.least_p == pytest.approx(0.0625)
    assert not five.can_reach_five_percent
    assert six.p == six.least_p == pytest.approx(0.03125)
    assert six.can_reach_five_percent
    none = signed_rank([0.0, 0.0])
    assert math.isnan(none.p)
    assert none.least_p == 1.0


def naive_holm(p):
    """Reject one by one, the least p first, as Holm wrote it down."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, so_far = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = so_far
    return adjusted


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_by_step_procedure(p):
    adjusted = holm(p)
    assert adjusted == pytest.approx(naive_holm(p))
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all((adjusted[i] <= adjusted[j]) or p[i] > p[j] for i in range(len(p)) for j in range(len(p)))


def test_a_p_that_does_not_exist_makes_no_family_larger():
    adjusted = holm([0.02, NAN, 0.03])
    assert adjusted[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(adjusted[1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])
