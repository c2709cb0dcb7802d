from __future__ import annotations

import pytest
import torch

from frugalseg.pretraining.views import ONE_VIEW, TWO_VIEWS, VIEW_GROUPS, make_views


def slices(count=6, size=48):
    """A bright disc left of the middle on a dark body: one can tell left from right and see what moved."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    body = 0.4 * (x**2 + y**2 < 0.8).float()
    disc = 0.4 * ((x + 0.35) ** 2 + y**2 < 0.06).float()
    return (body + disc).expand(count, 1, size, size).clone()


@pytest.mark.parametrize("kind", ["light", "strong"])
def test_views_differ_from_each_other_and_stay_in_range(kind):
    torch.manual_seed(0)
    images = slices()
    views = make_views(images, 2, TWO_VIEWS[kind]())
    assert views.shape == (12, 1, 48, 48)
    assert views.dtype == torch.float32
    assert 0 <= views.min()
    assert views.max() <= 1
    for i in range(6):
        assert (views[i] - views[6 + i]).abs().mean() > 0.005  # two views of one slice
        assert (views[i] - images[i]).abs().mean() > 0.005
        assert (views[i] - views[(i + 1) % 6]).abs().mean() > 0.005  # every image draws for itself


def test_one_seed_gives_one_pair_of_views_and_the_next_step_another():
    changes = TWO_VIEWS["strong"]()
    torch.manual_seed(1)
    first, later = make_views(slices(), 2, changes), make_views(slices(), 2, changes)
    torch.manual_seed(1)
    assert torch.equal(first, make_views(slices(), 2, changes))
    assert not torch.equal(first, later)


def test_strong_changes_never_swap_left_and_right_and_keep_half_the_picture():
    torch.manual_seed(2)
    images = slices(64)
    changed = TWO_VIEWS["strong"]()(images)
    x = torch.linspace(-1, 1, 48)
    brightest = changed.flatten(1).quantile(0.97, dim=1).view(-1, 1, 1, 1)
    weight = (changed >= brightest).float()
    centre = (weight * x).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))
    assert (centre < 0.1).float().mean() > 0.95  # the disc stays left, or in the middle of a crop around it
    area = (changed > 0.65 * changed.amax(dim=(1, 2, 3), keepdim=True)).float().mean(dim=(1, 2, 3))
    disc = (images[0] > 0.6).float().mean()
    assert area.median() < 2.6 * disc  # a crop of half the area shows things at most twice as large


def test_none_changes_nothing():
    images = slices(2)
    assert torch.equal(make_views(images, 1, ONE_VIEW["none"]()), images)


@pytest.mark.parametrize("kind", VIEW_GROUPS)
def test_supercls_first_group_stays_in_place_and_the_second_is_the_first_moved(kind):
    torch.manual_seed(3)
    images = slices(64)
    v1, v2, i1, i2 = make_views(images, 4, VIEW_GROUPS[kind]()).chunk(4)
    for view in (v1, v2, i1, i2):
        assert view.shape == images.shape
        assert 0 <= view.min()
        assert view.max() <= 1

    def overlap(view):
        found = view > 0.65 * view.amax(dim=(1, 2, 3), keepdim=True)
        disc = images > 0.6
        return ((found & disc).sum((1, 2, 3)) / (found | disc).sum((1, 2, 3))).median()

    assert overlap(i1) > 0.5
    assert overlap(i2) > 0.5
    assert overlap(v1) < overlap(i1) - 0.1
    assert overlap(v2) < overlap(i2) - 0.1
    for a, b in ((i1, i2), (v1, v2), (v1, i1)):
        assert ((a - b).abs().mean((1, 2, 3)) > 0.003).float().mean() > 0.6
