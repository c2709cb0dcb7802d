from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from frugalseg.segmentation.consistency import RAMP_SHARE, consistency_loss, sigmoid_ramp_up


def test_consistency_is_the_squared_difference_in_units_of_the_organ():
    torch.manual_seed(0)
    p, q = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    expected = 0.0
    for c in range(2):
        difference = size = 0.0
        for b in range(3):
            for y in range(4):
                for x in range(4):
                    one, other = p[b, c, y, x].item(), q[b, c, y, x].item()
                    difference += (one - other) ** 2
                    size += one**2 + other**2
        expected += difference / size / 2
    assert consistency_loss(p, q).item() == pytest.approx(expected, rel=1e-4)


def test_it_does_not_shrink_with_the_share_of_empty_slices():
    p, q = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)
    empty = torch.zeros(9, 1, 8, 8)
    alone, among = consistency_loss(p, q), consistency_loss(torch.cat([p, empty]), torch.cat([q, empty]))
    assert alone.item() == pytest.approx(among.item(), rel=1e-5)
    assert consistency_loss(empty, empty).item() == 0


def test_only_the_student_learns():
    p, q = torch.rand(1, 1, 4, 4, requires_grad=True), torch.rand(1, 1, 4, 4, requires_grad=True)
    consistency_loss(p, q).backward()
    assert p.grad.abs().sum() > 0
    assert q.grad is None


def test_ramp_rises_from_almost_nothing_to_one():
    weights = [sigmoid_ramp_up(step, 100) for step in range(101)]
    assert weights[0] < 0.01
    assert all(a <= b for a, b in pairwise(weights))
    assert weights[round(100 * RAMP_SHARE)] == weights[-1] == 1
    assert sigmoid_ramp_up(1, 1) == 1
