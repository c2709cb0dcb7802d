from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from frugalseg.masks import components
from frugalseg.masks.components import filter_components
from frugalseg.masks.runs import clear_runs, find_components, find_runs


def naive(classes, numbers):
    out = classes.copy()
    for number in numbers:
        labels, count = ndimage.label(classes == number, structure=np.ones((3, 3, 3)))
        if count:
            sizes = [(labels == i).sum() for i in range(1, count + 1)]
            out[(classes == number) & (labels != 1 + int(np.argmax(sizes)))] = 0
    return out


@pytest.mark.parametrize("voxels_a_run", [1, 10**9])
def test_equals_the_loops_on_random_blobs(monkeypatch, voxels_a_run):
    """By runs, and voxel by voxel."""
    monkeypatch.setattr(components, "VOXELS_A_RUN", voxels_a_run)
    rng = np.random.default_rng(0)
    for _ in range(5):
        noise = ndimage.gaussian_filter(rng.normal(size=(20, 21, 22)), 1.5)
        classes = (np.digitize(noise, [0.08, 0.14])).astype(np.uint8)
        for keep, numbers in {("largest",): [1], ("all", "largest"): [2], ("largest", "largest"): [1, 2]}.items():
            assert np.array_equal(filter_components(classes.copy(), keep), naive(classes, numbers))


@pytest.mark.parametrize("seed", range(20))
def test_runs_find_the_components_of_scipy(seed):
    """At every density, in boxes with sides of one voxel too, with the same order of components."""
    rng = np.random.default_rng(seed)
    classes = (rng.random(tuple(rng.integers(1, 9, 3))) < rng.uniform(0.1, 0.6)).astype(np.uint8)
    labels, count = ndimage.label(classes, structure=np.ones((3, 3, 3)))
    runs = find_runs(classes, 1, most=classes.size)
    found = find_components(runs)
    for number in range(count):
        kept = classes.copy()
        clear_runs(kept, runs, found != number)
        assert np.array_equal(kept == 1, labels == number + 1)


def test_too_many_runs_are_not_listed():
    board = np.indices((4, 4, 4)).sum(axis=0) % 2
    assert find_runs(board.astype(np.uint8), 1, most=31) is None
    assert len(find_runs(board.astype(np.uint8), 1, most=32).begins) == 32


def test_corner_contact_joins_and_other_classes_stay():
    classes = np.zeros((6, 6, 6), np.uint8)
    classes[0, 0, 0] = classes[1, 1, 1] = 1
    classes[5, 5, 5] = 1
    classes[3, 3, 3] = classes[0, 5, 0] = 2
    kept = filter_components(classes, ["largest", "all"])
    assert kept[0, 0, 0] == kept[1, 1, 1] == 1
    assert kept[5, 5, 5] == 0
    assert (kept == 2).sum() == 2


def test_absent_class_is_no_error():
    assert filter_components(np.zeros((3, 3, 3), np.uint8), ["largest", "core"]).sum() == 0


def liver_and_heart(bridge):
    """A large box, and a smaller one connected to it by a bridge `bridge` pixels wide and one slice high."""
    classes = np.zeros((12, 40, 40), np.uint8)
    classes[2:10, 4:24, 4:36] = 1
    classes[3:9, 28:38, 10:20] = 2
    heart = classes == 2
    classes[heart] = 1
    classes[5, 24:28, 14 : 14 + bridge] = 1
    return classes, heart


def test_core_cuts_a_thin_bridge_and_keeps_the_organ_whole():
    classes, heart = liver_and_heart(bridge=3)
    liver = np.zeros_like(heart)
    liver[2:10, 4:24, 4:36] = True
    assert filter_components(classes.copy(), ["largest"])[heart].all()
    core = filter_components(classes.copy(), ["core"])
    assert not core[heart].any()
    assert core[liver].mean() > 0.99  # of a box, the corners go
    assert core.sum() <= liver.sum() + 3 * 4


def test_core_of_something_thin_is_its_largest_component():
    classes = np.zeros((5, 20, 20), np.uint8)
    classes[2, 3, 2:15] = 1
    classes[4, 10, 2:5] = 1
    assert np.array_equal(filter_components(classes.copy(), ["core"]), filter_components(classes.copy(), ["largest"]))


def test_core_scales_with_the_slices():
    """The same anatomy with pixels of half the size needs twice the reach."""
    coarse, heart = liver_and_heart(bridge=5)
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    kept = filter_components(fine.copy(), ["core"], reach=4)[:, ::2, ::2]
    assert not kept[heart].any()
    assert np.mean(kept != filter_components(coarse.copy(), ["core"], reach=2)) < 0.005
