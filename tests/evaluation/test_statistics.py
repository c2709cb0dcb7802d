from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.evaluation import statistics
from frugalseg.evaluation.metric_table import METRICS
from frugalseg.evaluation.slicewise import SLICE_METRICS
from frugalseg.evaluation.statistics import (
    Interval,
    crossed_interval,
    holm,
    mean_interval,
    mean_without_nan,
    signed_rank,
    summarise,
    summarise_runs,
)

NAN = float("nan")


def skewed(rng, shape):
    """Dice-like: near 1, with a tail towards 0; the mean is 0.9."""
    return rng.beta(18, 2, shape)


def normal(rng, shape):
    return rng.normal(0.9, 0.03, shape)


@pytest.mark.parametrize("scores_of", [skewed, normal])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 29, 30])
def test_the_interval_of_few_patients_holds_the_truth_as_often_as_it_says(n, scores_of):
    rng = np.random.default_rng(n)
    samples = scores_of(rng, (600, n))
    held = [low <= 0.9 <= high for low, high in (mean_interval(s, 500).limits for s in samples)]
    assert np.mean(held) > 0.90  # a percentile bootstrap holds it in 0.5, 0.73, 0.79, 0.83, 0.89 at 2, 3, 4, 5, 10


def test_the_interval_of_few_is_student_s():
    values = np.random.default_rng(0).normal(0.8, 0.05, size=7)
    found = mean_interval(values)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.limits == pytest.approx((theirs.low, theirs.high))
    assert found.kind == "t interval, 7 patients"


def test_the_interval_of_many_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(0.9, 0.03, size=400)
    found = mean_interval(values, 20_000, seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.limits == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06 * half)
    assert found.kind == "BCa bootstrap interval, 400 patients"


def test_the_interval_of_many_leans_to_where_a_few_fail():
    values = np.array([0.9, 0.92, 0.91, 0.93] * 10 + [0.1, 0.0])
    low, high = mean_interval(values).limits
    assert values.mean() - low > 1.3 * (high - values.mean())


def test_one_seed_gives_one_interval_in_pieces_too(monkeypatch):
    values = np.random.default_rng(3).random(37)
    whole = mean_interval(values, 1_000, seed=5)
    assert whole == mean_interval(values, 1_000, seed=5)
    assert whole != mean_interval(values, 1_000, seed=6)
    monkeypatch.setattr(statistics, "VALUES_AT_ONCE", 500)
    assert mean_interval(values, 1_000, seed=5).limits == pytest.approx(whole.limits, abs=0.02)


def test_limits_stay_inside_the_metric_s_range():
    free, held = mean_interval([0.9, 0.96]), mean_interval([0.9, 0.96], scale=(0.0, 1.0))
    assert free.limits[1] > 1
    assert held.limits == (free.limits[0], 1.0)
    assert mean_interval([1.0, 30.0], scale=(0.0, math.inf)).limits[0] == 0


def test_every_metric_has_a_range():
    ranges = [metric.scale for metric in (*METRICS.values(), *SLICE_METRICS.values())]
    assert all(low < high for low, high in ranges)


def test_where_there_is_no_interval_the_reason_is_given():
    assert mean_interval([0.5]) == Interval(None, "", "1 patient")
    assert mean_interval([0.5, NAN], noun="scan").kind == "no interval: 1 scan"
    equal = mean_interval([0.3, 0.1 + 0.2, 0.3])  # two patients alike do not make a third one certain
    assert (equal.limits, equal.kind) == (None, "no interval: 3 patients, all with the same score")
    assert mean_interval([0.0] * 50).limits is None


def test_nan_is_left_out_and_counted():
    summary = summarise([0.5, NAN, 0.7], 1_000, 0, (0.0, 1.0))
    assert (summary.n, summary.left_out) == (2, 1)
    assert summary.mean == pytest.approx(0.6)
    assert summary.sd == pytest.approx(0.2 / math.sqrt(2))
    assert summary.ci95 == (0.0, 1.0)  # ± 12.7 standard errors of two patients
    assert summary.ci95_kind == "t interval, 2 scans"


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = summarise([0.5], 100, 0), summarise([float("nan")] * 3, 100, 0)
    assert (one.mean, one.ci95, one.ci95_kind) == (0.5, None, "no interval: 1 scan")
    assert math.isnan(one.sd)
    assert (none.n, none.left_out, none.ci95) == (0, 3, None)
    assert math.isnan(none.mean)


def one_draw(seeds):
    return [(0, seed) for seed in range(seeds)]


GRID = list(itertools.product(range(2), range(3)))
"""Two draws of the labels × three seeds."""


def test_the_interval_over_runs_is_what_adding_variances_gives():
    scores = np.random.default_rng(0).normal(0.8, 0.05, (6, 5))
    by = {
        "draw": [scores[[i for i, run in enumerate(GRID) if run[0] == draw]].mean() for draw in range(2)],
        "seed": [scores[[i for i, run in enumerate(GRID) if run[1] == seed]].mean() for seed in range(3)],
        "patient": [scores[:, patient].mean() for patient in range(5)],
    }
    parts = [np.var(means, ddof=1) / len(means) for means in by.values()]
    freedom = sum(parts) ** 2 / sum(p**2 / (len(means) - 1) for p, means in zip(parts, by.values(), strict=True))
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    found = crossed_interval(scores, GRID)
    assert found.limits == pytest.approx((scores.mean() - half, scores.mean() + half))
    assert found.kind == "t interval, 2 draws, 3 seeds, 5 patients"


def test_runs_that_differ_widen_the_interval_that_patients_alone_would_give():
    scores = np.array([[0.0, 0.1, 0.2], [0.8, 0.9, 1.0]])
    patients, both = (
        mean_interval(scores.mean(axis=0), scale=(0, 1)),
        crossed_interval(scores, one_draw(2), scale=(0, 1)),
    )
    assert 0 < patients.limits[0] < patients.limits[1] < 1
    assert both.limits == (0.0, 1.0)
    assert both.kind == "t interval, 1 draw, 2 seeds, 3 patients"


@pytest.mark.parametrize("patients", [8, 40])
def test_one_run_leaves_the_patients_interval(patients):
    values = np.random.default_rng(2).random(patients)
    assert crossed_interval(values[None], [(3, 7)], 500) == mean_interval(values, 500)


def test_draws_and_seeds_are_taken_whole():
    # Six independent runs would tell far more of how draws differ than two draws do.
    patients = np.linspace(-0.02, 0.02, 4)
    for level in (0, 1):
        scores = np.array([patients + 0.1 * run[level] for run in GRID])
        whole, independent = (crossed_interval(scores, runs).limits for runs in (GRID, one_draw(6)))
        assert whole[1] - whole[0] > 1.5 * (independent[1] - independent[0])


@pytest.mark.parametrize(("draws", "seeds", "patients"), [(2, 3, 12), (2, 3, 4), (3, 3, 12), (5, 5, 12)])
def test_the_interval_over_runs_holds_the_truth_with_few_draws(draws, seeds, patients):
    rng = np.random.default_rng(1)
    runs = list(itertools.product(range(draws), range(seeds)))
    held = 0
    for _ in range(600):
        levels = rng.normal(0, 0.02, (draws, 1, 1)) + rng.normal(0, 0.01, (1, seeds, 1))
        scores = levels + rng.normal(0, 0.02, (1, 1, patients)) + rng.normal(0, 0.02, (draws, seeds, patients))
        low, high = crossed_interval(scores.reshape(-1, patients), runs).limits
        held += low <= 0 <= high
    assert held / 600 > 0.90  # resampling draws, seeds and patients: 0.80, 0.86, 0.86, 0.90


def test_nan_is_left_out_of_runs_and_patients():
    scores = np.array([[0.5, NAN, 0.7, NAN], [0.5, 0.6, 0.7, NAN]])
    found = crossed_interval(scores, one_draw(2))
    assert found.sample == "1 draw, 2 seeds, 3 patients"
    assert sum(found.limits) / 2 == pytest.approx(0.6)
    assert crossed_interval(np.array([[0.5, NAN], [0.6, NAN]]), one_draw(2)).kind == "no interval: 1 patient"
    assert crossed_interval(np.empty((0, 4)), []).kind == "no interval: 0 patients"
    unscored = np.vstack([scores, np.full((1, 4), NAN)])
    assert crossed_interval(unscored, [*one_draw(2), (1, 0)]) == found
    with pytest.raises(ValueError, match="2 rows of scores for 3 runs"):
        crossed_interval(scores, one_draw(3))


def test_differences_that_are_all_zero_show_nothing():
    assert crossed_interval(np.zeros((6, 12)), GRID).limits is None


def test_runs_are_summarised_by_hand():
    summary = summarise_runs(np.array([[0.8, 0.6], [0.9, 0.7], [1.0, NAN]]), one_draw(3), scale=(0.0, 1.0))
    assert (summary.runs, summary.patients) == (3, 2)
    assert summary.mean == pytest.approx((0.7 + 0.8 + 1.0) / 3)
    assert summary.sd == pytest.approx(np.std([0.7, 0.8, 1.0], ddof=1))
    assert summary.ci95 == mean_interval([0.9, 0.65], scale=(0.0, 1.0))
    nothing = summarise_runs(np.empty((0, 5)), [])
    assert (nothing.runs, nothing.patients, nothing.ci95.limits, nothing.ci95_runs.limits) == (0, 0, None, None)
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
