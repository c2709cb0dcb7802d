from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from frugalseg.segment.presets import PRESETS, make_optimizer, make_schedule


def trace(preset, steps, per_epoch):
    optimizer = make_optimizer(PRESETS[preset], [torch.nn.Parameter(torch.zeros(1))], None)
    schedule = make_schedule(PRESETS[preset], optimizer, steps, per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_paper_restarts_every_ten_epochs_and_moves_inside_an_epoch():
    rates = trace("paper", steps=120, per_epoch=5)
    assert rates[0] == rates[50] == rates[100] == 1e-3
    assert all(a > b for a, b in pairwise(rates[:50]))


def test_robust_rises_once_and_ends_near_zero():
    rates = trace("robust", steps=100, per_epoch=7)
    top = rates.index(max(rates))
    assert 0 < top < 50
    assert max(rates) == pytest.approx(PRESETS["robust"].lr, rel=1e-2)
    assert rates[-1] < 1e-3 * max(rates)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 19, 20, 21])
@pytest.mark.parametrize("preset", PRESETS)
def test_shortest_runs_have_a_schedule(preset, steps):
    assert all(0 < rate <= PRESETS[preset].lr for rate in trace(preset, steps, per_epoch=1))


def test_own_learning_rate_wins():
    assert make_optimizer(PRESETS["robust"], [torch.nn.Parameter(torch.zeros(1))], 0.5).param_groups[0]["lr"] == 0.5
