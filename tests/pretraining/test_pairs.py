"""The pair rules against their set definitions, written as loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import SplitError
from frugalseg.pretraining.pairs import PairTable

METHODS = ("polycl-o", "polycl-s", "polycl-m", "random-pairs")


def allowed_positives(method, s, scan, kind):
    slices = range(len(scan))
    if method == "random-pairs":
        return set(slices) - {s}
    if method == "polycl-o":
        return {x for x in slices if kind[x] == kind[s]} - {s}
    if method == "polycl-s":
        return {x for x in slices if scan[x] == scan[s]} - {s}
    return {x for x in slices if scan[x] == scan[s] and kind[x] == kind[s]} - {s}


def allowed_negatives(method, s, scan, kind, scope="same"):
    slices = range(len(scan))
    if method == "random-pairs":
        return set(slices) - {s}
    if method == "polycl-s":
        return {x for x in slices if scan[x] != scan[s]}
    differing = {x for x in slices if kind[x] != kind[s]}
    if method == "polycl-o" or scope == "any":
        return differing
    inside = {x for x in differing if (scan[x] == scan[s]) == (scope == "same")}
    return inside or differing


def table_of(scan, present, z=None, rows=None):
    scan, present = np.array(scan), np.array(present, dtype=bool)
    if z is None:
        z = np.zeros(len(scan))
        for one in np.unique(scan):
            z[scan == one] = np.arange((scan == one).sum())
    kinds = [tuple(row) for row in present]
    return PairTable(np.arange(len(scan)) if rows is None else rows, scan, present, z), kinds


cohorts = st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5)


@given(cohorts, st.sampled_from(METHODS), st.sampled_from(["same", "other", "any"]), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_every_pair_is_allowed_and_no_possible_anchor_is_dropped(cohort, method, scope, seed):
    scan = [i for i, slices in enumerate(cohort) for _ in slices]
    table, kind = table_of(scan, [organs for slices in cohort for organs in slices])
    possible = {
        s
        for s in range(len(scan))
        if allowed_positives(method, s, scan, kind) and allowed_negatives(method, s, scan, kind, scope)
    }
    if not possible:
        with pytest.raises(SplitError):
            table.draw(method, np.random.default_rng(seed), scope)
        return
    drawn = table.draw(method, np.random.default_rng(seed), scope)
    assert set(drawn.anchor.tolist()) == possible
    for s, p, n in drawn.stack().tolist():
        assert p in allowed_positives(method, s, scan, kind)
        assert n in allowed_negatives(method, s, scan, kind, scope)


#                 scan 0: liver in the middle    scan 1: no liver   scan 2: one slice
THREE_SCANS = ([0] * 6 + [1] * 4 + [2], [[0], [0], [1], [1], [1], [0]] + [[0]] * 4 + [[1]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", ["same", "other", "any"])
def test_draws_are_uniform(method, scope):
    table, kind = table_of(*THREE_SCANS)
    scan = THREE_SCANS[0]
    draws = 4000
    positives, negatives = {}, {}
    rng = np.random.default_rng(0)
    for _ in range(draws):
        for s, p, n in table.draw(method, rng, scope).stack().tolist():
            positives.setdefault(s, Counter())[p] += 1
            negatives.setdefault(s, Counter())[n] += 1
    for counts, allowed in ((positives, allowed_positives), (negatives, allowed_negatives)):
        for s, count in counts.items():
            extra = (scope,) if allowed is allowed_negatives else ()
            candidates = allowed(method, s, scan, kind, *extra)
            assert set(count) == candidates
            expected = draws / len(candidates)
            # chi-square with k - 1 degrees stays under k + 5 sqrt(2k) but for one draw in 10^5
            chi = sum((c - expected) ** 2 / expected for c in count.values())
            assert chi < len(candidates) + 5 * np.sqrt(2 * len(candidates))


def test_one_slice_scan_is_no_anchor_but_may_be_a_positive_across_scans():
    table, _ = table_of(*THREE_SCANS)
    rng = np.random.default_rng(0)
    assert 10 not in table.draw("polycl-m", rng).anchor
    assert 10 not in table.draw("polycl-s", rng).anchor
    assert 10 in table.draw("polycl-o", rng).anchor
    assert any(10 in table.draw("polycl-o", rng).positive for _ in range(50))


def test_scan_without_the_organ_takes_its_negative_elsewhere():
    table, _ = table_of(*THREE_SCANS)
    drawn = table.draw("polycl-m", np.random.default_rng(0))
    of_scan_1 = np.isin(drawn.anchor, [6, 7, 8, 9])
    assert of_scan_1.sum() == 4
    assert set(drawn.negative[of_scan_1]) <= {2, 3, 4, 10}


def test_organ_in_no_scan_is_an_error_where_organs_make_the_pairs():
    table, _ = table_of([0, 0, 1, 1], [[0]] * 4)
    for method in ("polycl-o", "polycl-m"):
        with pytest.raises(SplitError, match="same organs"):
            table.draw(method, np.random.default_rng(0))
    assert len(table.draw("polycl-s", np.random.default_rng(0))) == 4


def test_single_scan_is_an_error_for_polycl_s():
    table, _ = table_of([0, 0, 0], [[0], [1], [1]])
    with pytest.raises(SplitError, match="only one scan"):
        table.draw("polycl-s", np.random.default_rng(0))


def test_a_single_slice_has_no_random_pair():
    table, _ = table_of([0], [[1]])
    with pytest.raises(SplitError, match="only one slice"):
        table.draw("random-pairs", np.random.default_rng(0))


def test_several_organs_compare_as_sets():
    """{liver} differs from {liver, spleen}: sharing one organ is not enough to be a positive."""
    table, _ = table_of([0] * 4, [[1, 0], [1, 1], [1, 0], [1, 1]])
    drawn = table.draw("polycl-m", np.random.default_rng(0))
    assert dict(zip(drawn.anchor.tolist(), drawn.positive.tolist(), strict=True)) == {0: 2, 2: 0, 1: 3, 3: 1}
    assert set(zip((drawn.anchor % 2).tolist(), (drawn.negative % 2).tolist(), strict=True)) == {(0, 1), (1, 0)}


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_repeats_and_another_epoch_differs(method):
    table, _ = table_of([i // 20 for i in range(200)], [[5 < i % 20 < 14] for i in range(200)])
    first, again, later = (table.draw(method, np.random.default_rng([0, epoch])).stack() for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert (first != later).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_min_dz_is_the_least_distance_of_positives_in_a_scan(method):
    z = np.tile(np.arange(30) * 2.0, 3)
    scan = np.repeat(np.arange(3), 30)
    table, _ = table_of(scan, [[10 <= i % 30 < 22] for i in range(90)], z)
    rng = np.random.default_rng(0)
    near_without = 0
    for _ in range(20):
        for s, p, _ in table.draw(method, rng, min_dz=7.0).stack().tolist():
            assert scan[s] != scan[p] or abs(z[s] - z[p]) >= 7.0
        near_without += sum(
            scan[s] == scan[p] and abs(z[s] - z[p]) < 7.0 for s, p, _ in table.draw(method, rng).stack().tolist()
        )
    assert near_without > 0


def test_min_dz_is_waived_where_it_leaves_no_positive():
    table, _ = table_of([0, 0, 0, 1], [[1], [1], [0], [0]], z=np.array([0.0, 1.0, 50.0, 0.0]))
    drawn = table.draw("polycl-m", np.random.default_rng(0), min_dz=10.0)
    assert dict(zip(drawn.anchor.tolist(), drawn.positive.tolist(), strict=True)) == {0: 1, 1: 0}


def test_rows_of_the_store_come_back():
    rows = np.array([70, 71, 72, 90, 91, 92])
    table, _ = table_of([5, 5, 5, 9, 9, 9], [[0], [1], [1], [0], [1], [1]], rows=rows)
    drawn = table.draw("polycl-o", np.random.default_rng(0))
    assert set(drawn.anchor) == set(rows)
    assert set(drawn.positive) | set(drawn.negative) <= set(rows)
