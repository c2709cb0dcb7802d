from __future__ import annotations

from typing import get_args

import pytest
import torch

from frugalseg.engine.optimization import Optimization, OptimizerName


def one_step(optimizer, parameter):
    parameter.square().sum().backward()
    optimizer.step()
    return parameter.detach().clone()


def ones():
    return torch.nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam([p], lr=0.1, weight_decay=0.5)),
        ("adamw", lambda p: torch.optim.AdamW([p], lr=0.1, weight_decay=0.5)),
        ("sgd", lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.5)),
    ],
)
def test_each_name_is_pytorchs_optimiser_with_the_stated_settings(name, reference):
    mine, theirs = ones(), ones()
    made = Optimization(lr=0.1, weight_decay=0.5, schedule="cosine", optimizer=name).make_optimizer([mine])
    expected = reference(theirs)
    for _ in range(3):  # momentum shows from the second step on
        assert torch.equal(one_step(made, mine), one_step(expected, theirs))


def test_every_optimiser_is_tested_above():
    assert set(get_args(OptimizerName)) == {"adam", "adamw", "sgd"}


def test_groups_keep_their_own_rates_and_the_others_get_the_given_one():
    optimization = Optimization(lr=0.1, weight_decay=0.0, schedule="one_cycle")
    groups = [{"params": [ones()], "lr": 0.5}, {"params": [ones()]}]
    assert [group["lr"] for group in optimization.make_optimizer(groups).param_groups] == [0.5, 0.1]
    groups = [{"params": [ones()], "lr": 0.5}, {"params": [ones()]}]
    assert [group["lr"] for group in optimization.make_optimizer(groups, lr=0.2).param_groups] == [0.5, 0.2]


def rates(schedule, steps, **settings):
    optimization = Optimization(lr=1.0, weight_decay=0.0, schedule=schedule, optimizer="sgd")
    optimizer = optimization.make_optimizer([ones()])
    scheduler = optimization.make_schedule(optimizer, steps, **settings)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_restarts_begin_again_and_cosine_ends_at_the_lowest_rate():
    assert [i for i, rate in enumerate(rates("warm_restarts", 12, restart_steps=4)) if rate == 1] == [0, 4, 8]
    falling = rates("cosine", 50, lowest=0.25)
    assert falling == sorted(falling, reverse=True)
    assert falling[25] == pytest.approx(0.625)
    assert falling[-1] == pytest.approx(0.25, abs=1e-2)


def test_one_cycle_is_highest_after_a_tenth_and_rises_in_the_shortest_runs():
    found = rates("one_cycle", 100)
    assert found.index(max(found)) == 10
    assert all(0 < rate <= 1 for rate in found)
    for steps in (2, 5, 19, 20, 21):
        short = rates("one_cycle", steps)
        assert short[0] < max(short[:3])
