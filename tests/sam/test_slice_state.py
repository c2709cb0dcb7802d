"""Beliefs, on disk and fused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.errors import ScanError
from frugalseg.sam.carried import LIMIT, Carried
from frugalseg.sam.fuse import fuse
from frugalseg.sam.legs import annotated_slices, as_ranges, legs, neighbours
from frugalseg.sam.overlap import overlap


def carried(*values, z=5, alive=None, shape=(2, 3)):
    """One object a value, which it has everywhere."""
    beliefs = np.stack([np.full(shape, value, np.float32) for value in values])
    there = np.array([value > 0 for value in values] if alive is None else alive)
    figures = [np.linspace(0.1, 0.9, len(values)) + i / 100 for i in range(3)]
    return Carried(z, beliefs, there, *figures)


def test_a_pixel_goes_to_the_higher_belief_or_to_none():
    assert carried(0.5, 1.5).masks()[:, 0, 0].tolist() == [False, True]
    assert carried(-0.5, -1.5).masks().any() == np.False_
    assert carried(1.0, 1.0).masks().sum(axis=0).max() == 1


def test_what_is_kept_is_what_was_rounded(tmp_path):
    rng = np.random.default_rng(0)
    one = Carried(7, rng.normal(0, 3, (2, 9, 8)).astype(np.float32), np.array([True, False]), *rng.random((3, 2)))
    one.save(tmp_path / "x.npz")
    back, rounded = Carried.load(tmp_path / "x.npz"), one.rounded()
    assert back.z == 7
    assert np.array_equal(back.beliefs, rounded.beliefs)
    assert np.abs(back.beliefs - one.beliefs.clip(-LIMIT, LIMIT)).max() < 0.02
    assert np.array_equal(back.rounded().beliefs, back.beliefs)
    assert np.array_equal(back.alive, one.alive)
    assert np.array_equal(back.change, one.change)


def test_given_slices_are_certain():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 1:3] = True
    one = Carried.given(3, masks)
    assert np.array_equal(one.masks(), masks)
    assert one.alive.tolist() == [True, False]


def test_the_nearer_annotated_slice_counts_more():
    # 1 slice from the first, 3 from the second: 3/4 and 1/4.
    both = fuse(carried(2.0), carried(-1.0, alive=[True]), (1, 3))
    assert both.beliefs[0, 0, 0] == pytest.approx(0.75 * 2 - 0.25)
    assert fuse(carried(2.0), carried(-1.0, alive=[True]), (3, 1)).beliefs[0, 0, 0] == pytest.approx(0.5 - 0.75)


def test_where_one_side_has_lost_the_organ_the_other_decides():
    lost = carried(-LIMIT, 1.0, alive=[False, True])
    kept = carried(0.5, -LIMIT, alive=[True, False])
    both = fuse(lost, kept, (1, 9))
    assert both.beliefs[:, 0, 0].tolist() == [0.5, 1.0]
    assert both.alive.tolist() == [True, True]
    assert both.score.tolist() == [kept.score[0], lost.score[1]]
    assert not fuse(lost, lost, (1, 1)).alive[0]


def test_fusing_two_of_the_same_changes_nothing():
    one = carried(1.25, -2.0, 0.5, alive=[True, True, True])
    both = fuse(one, one, (2, 5))
    assert np.allclose(both.beliefs, one.beliefs)
    assert np.allclose(both.score, one.score)


def test_ways_from_each_annotated_slice_to_the_next():
    assert [(leg.start, leg.order) for leg in legs([3, 6], 1, 8)] == [
        (3, (4, 5)),
        (3, (2, 1)),
        (6, (7, 8)),
        (6, (5, 4)),
    ]
    assert legs([0], 0, 0) == []
    assert [leg.order for leg in legs([0, 1], 0, 2)] == [(2,)]
    assert neighbours(5, [3, 6]) == [3, 6]
    assert neighbours(1, [3, 6]) == [3]
    assert neighbours(9, [3, 6]) == [6]


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 30))
def test_every_slice_is_reached_from_its_annotated_neighbours_and_no_others(annotated, last):
    annotated = sorted(a for a in annotated if a <= last) or [0]
    reached: dict[int, list[int]] = {}
    for leg in legs(annotated, 0, last):
        steps = [abs(b - a) for a, b in zip((leg.start, *leg.order), leg.order, strict=False)]
        assert set(steps) == {1}
        for z in leg.order:
            reached.setdefault(z, []).append(leg.start)
    assert set(reached) == set(range(last + 1)) - set(annotated)
    assert all(sorted(starts) == neighbours(z, annotated) for z, starts in reached.items())


def test_which_slices_are_annotated():
    meant = np.zeros((10, 4, 4), bool)
    meant[[3, 6], 1, 1] = True
    assert annotated_slices(meant, [], [], "a") == [3, 6]
    assert annotated_slices(meant, [6], [], "a") == [6]
    assert annotated_slices(meant[3:4], [], [], "a") == [0]  # a volume of one slice
    assert annotated_slices(meant, [], [3, 8], "a") == [3, 6]


@pytest.mark.parametrize(
    ("foreground", "named", "span", "said"),
    [
        ([], [], [], "a: the annotation holds no foreground"),
        ([3], [4], [], "slice 4 holds no foreground; slices with some: 3"),
        ([3], [12], [], "slice 12 is not there, only 0…9 are"),
        ([3], [], [4, 8], "outside --range 4,8"),
        ([3], [], [2, 10], "slice 10 is not there"),
        (list(range(10)), [], [], "all 10 slices hold foreground"),
    ],
)
def test_annotations_that_cannot_be_carried(foreground, named, span, said):
    meant = np.zeros((10, 4, 4), bool)
    meant[foreground, 1, 1] = True
    with pytest.raises(ScanError, match=said):
        annotated_slices(meant, named, span, "a")


def test_slices_in_words():
    assert as_ranges([5, 3, 4, 9, 11, 12]) == "3–5, 9, 11–12"
    assert as_ranges([]) == ""


def test_overlap():
    a, b = np.array([True, True, False, False]), np.array([False, True, True, False])
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert overlap(a & b & ~a, a & ~a) == 0
