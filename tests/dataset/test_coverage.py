from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from frugalseg.dataset.coverage import choose_representatives, spread_fraction, take_turns, thin_out


def clusters(rng, sizes, distance=50.0, dimensions=4):
    """Gaussian clusters far apart; the cluster of every point."""
    centres = rng.normal(size=(len(sizes), dimensions)) * distance
    points = np.concatenate(
        [centre + rng.normal(size=(n, dimensions)) for centre, n in zip(centres, sizes, strict=True)]
    )
    return points.astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def mean_distance(points, chosen, weights=None):
    nearest = np.linalg.norm(points[:, None] - points[list(chosen)][None], axis=2).min(axis=1)
    return float(np.average(nearest, weights=weights))


def test_each_cluster_is_represented_once_before_any_twice_the_largest_first():
    points, cluster = clusters(np.random.default_rng(0), [30, 12, 21, 6])
    picks = choose_representatives(points, 4)
    assert sorted(cluster[pick.index] for pick in picks) == [0, 1, 2, 3]
    assert picks[-1].represents == pytest.approx(6 / 69)


@pytest.mark.parametrize("seed", range(5))
def test_every_choice_is_the_best_next_one_by_trying_all(seed):
    """The definition with loops: lazy evaluation changes nothing."""
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(25, 3)).astype(np.float32), rng.uniform(0.1, 1, 25)
    picks = choose_representatives(points, 6, weights)
    chosen = []
    for pick in picks:
        means = {i: mean_distance(points, [*chosen, i], weights) for i in range(25) if i not in chosen}
        assert means[pick.index] == pytest.approx(min(means.values()), abs=1e-5)
        chosen.append(pick.index)


def test_two_choices_are_nearly_the_best_pair():
    points = np.random.default_rng(3).normal(size=(30, 2)).astype(np.float32)
    best = min(mean_distance(points, pair) for pair in combinations(range(30), 2))
    assert mean_distance(points, [pick.index for pick in choose_representatives(points, 2)]) < 1.15 * best


def test_what_looks_like_an_outlined_slice_is_not_chosen():
    points, cluster = clusters(np.random.default_rng(1), [30, 10, 10])
    picks = choose_representatives(points, 2, outlined=points[:1])
    assert sorted(cluster[pick.index] for pick in picks) == [1, 2]


def test_weights_decide_which_cluster_comes_first():
    points, cluster = clusters(np.random.default_rng(2), [30, 10])
    weights = np.where(cluster == 1, 100.0, 1.0)
    first = choose_representatives(points, 1, weights)[0]
    assert cluster[first.index] == 1
    assert cluster[choose_representatives(points, 1)[0].index] == 0


def test_larger_choices_contain_smaller_ones_and_end_with_all():
    points = np.random.default_rng(4).normal(size=(15, 3)).astype(np.float32)
    order = [pick.index for pick in choose_representatives(points, 99)]
    assert sorted(order) == list(range(15))
    assert [pick.index for pick in choose_representatives(points, 4)] == order[:4]
    assert choose_representatives(points[:0], 3) == []


def test_spread_fractions_are_even_however_many_are_used():
    assert [spread_fraction(n) for n in range(5)] == [0.5, 0.25, 0.75, 0.125, 0.625]
    for count in (3, 10, 40):
        places = np.sort([0.0, 1.0, *(spread_fraction(n) for n in range(count))])
        assert np.diff(places).max() <= 2.01 / (count + 1)


def test_turns_and_thinning():
    queues = [np.array([1, 2, 3]), np.array([10]), np.array([20, 21])]
    assert take_turns(queues).tolist() == [1, 10, 20, 2, 21, 3]
    assert take_turns([]).tolist() == []
    assert thin_out(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert thin_out(9, 3).tolist() == [0, 4, 8]
