"""Test-time augmentation: what is shown rotated is turned back, and averaged where it was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from frugalseg.segmentation.losses import probabilities
from frugalseg.segmentation.views import View, average_over, list_views


def blob(size: int = 48) -> torch.Tensor:
    """A smooth spot away from the middle, (1, 1, S, S)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.exp(-((y - 14.0) ** 2 + (x - 28.0) ** 2) / 60)[None, None]


@pytest.mark.parametrize("axes", [(), (-1,), (-2,), (-1, -2)])
@pytest.mark.parametrize("degrees", [0.0, 8.0, -8.0])
def test_undo_brings_a_view_back(axes, degrees):
    view = View(axes, degrees)
    shown = view.show(blob())
    assert degrees == 0 or (shown - blob().flip(axes)).abs().max() > 0.1
    assert (view.undo(shown) - blob()).abs().max() < 0.05


def test_rotation_is_scipys():
    found = View((), 8.0).show(blob())[0, 0].numpy()
    expected = [ndimage.rotate(blob()[0, 0].numpy(), angle, reshape=False, order=1) for angle in (8, -8)]
    assert min(float(np.abs(found - one).max()) for one in expected) < 0.05


def test_a_network_that_looks_at_single_pixels_gives_the_same_with_every_view():
    network = torch.nn.Conv2d(1, 2, 1).eval()
    torch.nn.init.constant_(network.weight, 3.0)
    with torch.inference_mode():
        plain = probabilities(network(blob()))
        mean = average_over(list_views(flips=True, degrees=8.0), network, blob())
    assert len(list_views(flips=True, degrees=8.0)) == 12
    assert (mean - plain).abs().max() < 0.05


def test_corners_that_rotations_do_not_show_are_not_averaged_with_nothing():
    def always(images: torch.Tensor) -> torch.Tensor:
        return torch.full_like(images, 2.0)

    mean = average_over(list_views(flips=False, degrees=30.0), always, blob())
    assert torch.allclose(mean, torch.full_like(mean, float(torch.sigmoid(torch.tensor(2.0)))), atol=1e-5)
