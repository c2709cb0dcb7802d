"""The classes of resized slices are those that whole slices of probabilities would give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from frugalseg.imaging import likeliest as likeliest_module
from frugalseg.imaging.likeliest import likeliest, likeliest_with_margin, resized_classes
from frugalseg.imaging.square import Square


def probabilities(classes, size, grain, seed=0):
    """(2, C, *size): blobs of `grain`ths of the slice."""
    coarse = torch.randn(2, classes, grain, grain, generator=torch.Generator().manual_seed(seed)) * 3 - 1
    logits = F.interpolate(coarse, size, mode="bicubic")
    return F.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(dim=1)[:, 1:]


def by_argmax(full):
    return torch.cat([1 - full.sum(dim=1, keepdim=True), full], dim=1).argmax(dim=1).to(torch.uint8)


@pytest.mark.parametrize("most_mixed", [0, likeliest_module.MOST_MIXED, 1])
@pytest.mark.parametrize("classes", [1, 2, 13])
@pytest.mark.parametrize("grain", [4, 64])
@pytest.mark.parametrize("shape", [(128, 128), (131, 64), (64, 64), (40, 40), (40, 200), (64, 1), (1, 99), (65, 64)])
def test_equal_to_the_argmax_of_resized_probabilities(monkeypatch, most_mixed, classes, grain, shape):
    monkeypatch.setattr(likeliest_module, "MOST_MIXED", most_mixed)
    square = Square.fit(shape, (1.0, 1.3), 64)
    given = probabilities(classes, (64, 64), grain)
    found = square.classes(given)
    assert found.dtype == torch.uint8
    expected = by_argmax(square.restore(given))
    assert len(expected.unique()) > 1 or min(shape) == 1
    assert torch.equal(found, expected)


def test_of_equal_values_the_first_wins_as_in_argmax():
    values = torch.randint(0, 3, (6, 50, 50), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(likeliest(values[0], values[1:]), values.argmax(dim=0).to(torch.uint8))


@pytest.mark.parametrize("classes", [1, 2, 13])
def test_the_margin_is_that_between_the_two_highest_values(classes):
    torch.manual_seed(0)
    values = torch.randn(classes + 1, 3, 8, 8).softmax(dim=0)
    values[:, 0, 0] = values[:1, 0, 0]  # all equal: the first wins by nothing
    numbers, margin = likeliest_with_margin(values)
    best = values.sort(dim=0, descending=True).values
    assert torch.equal(numbers, values.argmax(dim=0).to(torch.uint8))
    assert torch.equal(margin, best[0] - best[1])


def test_a_class_exactly_as_likely_as_the_background_is_background():
    half = torch.full((1, 1, 4, 4), 0.5)
    half[0, 0, :, 2:] = 0.75
    assert torch.equal(resized_classes(half, (8, 8)), by_argmax(F.interpolate(half, (8, 8), mode="bilinear")))
    assert not resized_classes(torch.full((1, 1, 4, 4), 0.5), (8, 8)).any()


def test_a_class_that_is_first_only_between_pixels_is_found():
    """Between two pixels of other classes a third may be the likeliest, which is so in none of the four."""
    given = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.45, 0.45]]).view(1, 3, 1, 2)
    assert 3 in resized_classes(given, (1, 9))


def test_slices_are_not_changed():
    given = probabilities(3, (16, 16), 4)
    before = given.clone()
    resized_classes(given, (40, 40))
    resized_classes(given, (16, 16))
    assert torch.equal(given, before)
