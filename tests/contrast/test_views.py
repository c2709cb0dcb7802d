from __future__ import annotations

import pytest
import torch

from frugalseg.contrast.views import make_changes, views_of


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
    views = views_of(images, 2, make_changes(kind, 48))
    assert views.shape == (12, 1, 48, 48)
    assert views.dtype == torch.float32
    assert 0 <= views.min()
    assert views.max() <= 1
    for i in range(6):
        assert (views[i] - views[6 + i]).abs().mean() > 0.005  # two views of one slice
        assert (views[i] - images[i]).abs().mean() > 0.005
        assert (views[i] - views[(i + 1) % 6]).abs().mean() > 0.005  # every image draws for itself


def test_one_seed_gives_one_pair_of_views_and_the_next_step_another():
    changes = make_changes("strong", 48)
    torch.manual_seed(1)
    first, later = views_of(slices(), 2, changes), views_of(slices(), 2, changes)
    torch.manual_seed(1)
    assert torch.equal(first, views_of(slices(), 2, changes))
    assert not torch.equal(first, later)


def test_strong_changes_never_swap_left_and_right_and_keep_half_the_picture():
    torch.manual_seed(2)
    images = slices(64)
    changed = make_changes("strong", 48)(images)
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
    assert torch.equal(views_of(images, 1, make_changes("none", 48)), images)
