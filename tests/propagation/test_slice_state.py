"""Beliefs: stored, fused, and the overlap of masks."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.propagation.passes import BELIEF_LIMIT, SliceState, fuse_states
from frugalseg.refinement.refiner import overlap


def state(*values, z=5, alive=None, shape=(2, 3)):
    """One object per value, with that belief everywhere."""
    beliefs = np.stack([np.full(shape, value, np.float32) for value in values])
    there = np.array([value > 0 for value in values] if alive is None else alive)
    figures = [np.linspace(0.1, 0.9, len(values)) + i / 100 for i in range(3)]
    return SliceState(z, beliefs, there, *figures)


def test_a_pixel_goes_to_the_higher_belief_or_to_none():
    assert state(0.5, 1.5).masks()[:, 0, 0].tolist() == [False, True]
    assert state(-0.5, -1.5).masks().any() == np.False_
    assert state(1.0, 1.0).masks().sum(axis=0).max() == 1


def test_what_is_kept_is_what_was_rounded(tmp_path):
    rng = np.random.default_rng(0)
    one = SliceState(7, rng.normal(0, 3, (2, 9, 8)).astype(np.float32), np.array([True, False]), *rng.random((3, 2)))
    one.save(tmp_path / "x.npz")
    back, rounded = SliceState.load(tmp_path / "x.npz"), one.rounded()
    assert back.z == 7
    assert np.array_equal(back.beliefs, rounded.beliefs)
    assert np.abs(back.beliefs - one.beliefs.clip(-BELIEF_LIMIT, BELIEF_LIMIT)).max() < 0.02
    assert np.array_equal(back.rounded().beliefs, back.beliefs)
    assert np.array_equal(back.alive, one.alive)
    assert np.array_equal(back.change, one.change)


def test_given_slices_are_certain():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 1:3] = True
    one = SliceState.from_annotation(3, masks)
    assert np.array_equal(one.masks(), masks)
    assert one.alive.tolist() == [True, False]


def test_the_nearer_annotated_slice_counts_more():
    # 1 slice from the first, 3 from the second: 3/4 and 1/4.
    both = fuse_states(state(2.0), state(-1.0, alive=[True]), (1, 3))
    assert both.beliefs[0, 0, 0] == pytest.approx(0.75 * 2 - 0.25)
    assert fuse_states(state(2.0), state(-1.0, alive=[True]), (3, 1)).beliefs[0, 0, 0] == pytest.approx(0.5 - 0.75)


def test_where_one_side_has_lost_the_organ_the_other_decides():
    lost = state(-BELIEF_LIMIT, 1.0, alive=[False, True])
    kept = state(0.5, -BELIEF_LIMIT, alive=[True, False])
    both = fuse_states(lost, kept, (1, 9))
    assert both.beliefs[:, 0, 0].tolist() == [0.5, 1.0]
    assert both.alive.tolist() == [True, True]
    assert both.score.tolist() == [kept.score[0], lost.score[1]]
    assert not fuse_states(lost, lost, (1, 1)).alive[0]


def test_fusing_two_of_the_same_changes_nothing():
    one = state(1.25, -2.0, 0.5, alive=[True, True, True])
    both = fuse_states(one, one, (2, 5))
    assert np.allclose(both.beliefs, one.beliefs)
    assert np.allclose(both.score, one.score)


def test_overlap():
    a, b = np.array([True, True, False, False]), np.array([False, True, True, False])
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert overlap(a & b & ~a, a & ~a) == 0
