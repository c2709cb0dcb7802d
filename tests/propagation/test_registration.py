"""Registration of neighbouring slices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from frugalseg.propagation.registration import SliceRegion, displacement, signed_distance, warp


def anatomy(shape=(60, 80), seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 4)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


@pytest.mark.parametrize("pixel_mm", [(1.0, 1.0), (0.8, 2.0)])
@pytest.mark.parametrize("move", [(0, 0), (2, -3), (-4, 3)])
def test_a_shift_is_found(move, pixel_mm):
    wide = anatomy((160, 180))
    before, after = (plane[40:100, 40:120] for plane in (wide, np.roll(wide, move, axis=(0, 1))))
    field = displacement(before, after, pixel_mm, most_mm=20.0)[:, 15:-15, 15:-15]
    assert np.abs(np.median(field, axis=(1, 2)) + move).max() < 0.05
    assert np.abs(field + np.array(move)[:, None, None]).max() < 0.6


def test_what_swells_is_followed():
    rows, columns = np.indices((64, 64)) - 32.0
    distance = np.hypot(rows, columns)
    small, large = ((1 / (1 + np.exp((distance - radius) / 1.5))).astype(np.float32) for radius in (12, 15))
    field = displacement(small, large, (1.0, 1.0), most_mm=10.0)
    warped = warp(signed_distance(distance < 12, (1.0, 1.0), 40.0), field) > 0
    truth = distance < 15
    assert (warped & truth).sum() / (warped | truth).sum() > 0.93
    assert ((distance < 12) & truth).sum() / truth.sum() < 0.7


def test_nothing_moves_where_there_is_nothing_to_see():
    flat = np.full((40, 40), 0.3, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.003, (2, 40, 40)).astype(np.float32)
    assert np.abs(displacement(flat + noise[0], flat + noise[1], (1.0, 1.0), most_mm=10.0)).max() < 1.5
    assert (displacement(flat, flat, (1.0, 1.0), most_mm=10.0) == 0).all()


def test_no_displacement_is_longer_than_allowed():
    before, after = anatomy(seed=1), anatomy(seed=2)  # nothing in common
    field = displacement(before, after, (2.0, 1.0), most_mm=4.0)
    assert np.isfinite(field).all()
    assert np.abs(field[0]).max() <= 2.0 + 1e-5
    assert np.abs(field[1]).max() <= 4.0 + 1e-5


@pytest.mark.parametrize("shape", [(4, 4), (3, 50), (8, 5)])
def test_slices_of_a_few_pixels(shape):
    assert displacement(anatomy(shape), anatomy(shape, 1), (1.0, 1.0), 5.0).shape == (2, *shape)


@pytest.mark.parametrize(("inside", "distance"), [(True, 9.0), (False, -9.0)])
def test_a_mask_without_a_border_is_everywhere_as_far_from_it_as_can_be(inside, distance):
    assert (signed_distance(np.full((6, 8), inside), (1.0, 1.0), 9.0) == distance).all()


def test_signed_distances_are_in_mm_from_the_border():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    distance = signed_distance(mask, (2.0, 1.0), 50.0)
    assert ((distance > 0) == mask).all()
    assert distance[10, 10] == pytest.approx(0.25)  # half a mean pixel and half a column
    assert distance[10, 9] == pytest.approx(-0.25)
    assert distance[10, 0] == pytest.approx(-9.25)
    assert distance[4, 15] == pytest.approx(-1.25)
    assert (signed_distance(mask, (2.0, 1.0), 3.0)[:, 0] == -3).all()
    assert (signed_distance(np.zeros((3, 3), bool), (1.0, 1.0), 7.0) == -7).all()
    # An organ that the border of the slice cuts does not end there.
    assert signed_distance(np.ones((5, 5), bool), (1.0, 1.0), 7.0)[0, 0] > 0


def test_a_region_holds_all_masks_and_a_margin_in_mm():
    masks = np.zeros((2, 40, 50), bool)
    masks[0, 10:12, 20:25], masks[1, 30:32, 40:41] = True, True
    region = SliceRegion.around(masks, 6.0, (2.0, 3.0))
    assert (region.rows, region.columns) == (slice(7, 35), slice(18, 43))
    assert region.crop(masks)[:, :, :].sum() == masks.sum()
    assert SliceRegion.around(masks, 500.0, (1.0, 1.0)).crop(masks).shape == (2, 40, 50)
