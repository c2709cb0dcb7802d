from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from frugalseg.evaluation.surface import SurfaceDistances, bounding_box, find_surface, image_diagonal, surface_points
from tests.evaluation.blobs import SPACING, blob


@pytest.mark.parametrize("seed", range(3))
def test_surface_is_the_mask_minus_its_erosion(seed):
    mask = blob(seed)
    assert np.array_equal(find_surface(mask), mask & ~ndimage.binary_erosion(mask))


def test_a_mask_that_fills_the_array_has_its_surface_at_the_border():
    assert find_surface(np.ones((4, 4, 4), bool)).sum() == 64 - 8
    assert find_surface(np.ones((3, 3, 1), bool)).all()


def test_bounding_box_is_tight_whatever_the_memory_order():
    mask = np.zeros((9, 8, 7), bool)
    mask[2, 3:6, 5] = True
    for array in (mask, np.asfortranarray(mask), mask.transpose(2, 0, 1).copy().transpose(1, 2, 0)):
        assert bounding_box(array) == (slice(2, 3), slice(3, 6), slice(5, 6))
    assert bounding_box(np.zeros((3, 3), bool)) is None


def test_two_voxels_three_apart_at_two_mm_are_six_mm_apart():
    a, b = np.zeros((8, 3, 3), bool), np.zeros((8, 3, 3), bool)
    a[2, 1, 1] = b[5, 1, 1] = True
    distances = SurfaceDistances.between(a, b, np.eye(3) * 2.0)
    assert distances.hausdorff() == distances.hausdorff(95) == distances.average() == 6.0


def test_hausdorff_looks_both_ways():
    mask = np.zeros((30, 9, 9), bool)
    mask[2:6, 2:6, 2:6] = True
    far = mask.copy()
    far[25, 4, 4] = True
    one, other = (SurfaceDistances.between(*pair, np.eye(3)).hausdorff() for pair in ((mask, far), (far, mask)))
    assert one == other == 20.0


def test_distances_keep_their_decimals():
    a, b = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    a[1, 1] = b[2, 3] = True
    assert SurfaceDistances.between(a, b, np.eye(2)).hausdorff() == pytest.approx(5**0.5)


def test_percentiles_are_taken_in_each_direction_before_the_larger_is_chosen():
    distances = SurfaceDistances(np.arange(101.0), np.zeros(10_000))
    assert distances.hausdorff(95) == 95.0
    assert distances.average() == pytest.approx(5050 / 10_101)


def test_the_tolerance_is_inclusive():
    distances = SurfaceDistances(np.array([3.0, 4.0]), np.array([0.0, 3.0000001]))
    assert distances.surface_dice(3.0) == 0.5


def test_oblique_and_sheared_grids_are_measured_as_they_lie():
    rng = np.random.default_rng(0)
    to_mm = np.diag(SPACING) + rng.normal(scale=0.4, size=(3, 3))
    a, b = blob(1), blob(2)
    p, q = (np.argwhere(find_surface(m)) @ to_mm.T for m in (a, b))
    table = np.linalg.norm(p[:, None] - q[None], axis=2)
    distances = SurfaceDistances.between(a, b, to_mm)
    assert np.allclose(distances.from_reference, table.min(axis=1))
    assert np.allclose(distances.from_prediction, table.min(axis=0))


def test_an_empty_mask_is_the_callers_business():
    with pytest.raises(ValueError, match="two masks"):
        SurfaceDistances.between(blob(0), np.zeros_like(blob(0)), np.eye(3))


def test_no_distance_in_an_image_is_longer_than_its_diagonal():
    assert image_diagonal((4, 3), np.eye(2)) == 5.0
    shear = np.array([[1.0, 2.0, 0], [0, 1.0, 0], [0, 0, 3.0]])
    corners = surface_points(np.ones((5, 6, 7), bool), shear)
    longest = np.linalg.norm(corners[:, None] - corners[None], axis=2).max()
    assert longest < image_diagonal((5, 6, 7), shear) < longest * 1.4
