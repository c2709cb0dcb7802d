from __future__ import annotations

import torch
from torch import nn

from frugalseg.segmentation.ema import EMAModel


def test_average_follows_the_formula_and_starts_at_the_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    model = EMAModel(network, decay=0.75)
    expected = torch.zeros(2, 3)
    rates = [1.0, 9 / 10, 9 / 11, *(9 / (9 + n) for n in range(3, 27)), 0.25, 0.25]
    assert rates[27] == 0.25 < rates[26]  # the decay is reached
    for rate in rates:
        nn.init.normal_(network[0].weight)
        model.update()
        expected += rate * (network[0].weight.detach() - expected)
        assert torch.allclose(model.average[0].weight, expected, atol=1e-6)


def test_average_of_a_short_training_with_batch_norms_is_as_good_as_the_network():
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
    network = nn.Sequential(*first, nn.Conv2d(16, 1, 1))
    model = EMAModel(network, decay=0.99).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    x = torch.randn(16, 1, 8, 8)
    y = x.abs() < 0.7
    x = 100 * (x + 3)  # far from the 0 and 1 that batch norms start with
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x), y.float()).backward()
        optimizer.step()
        model.update()
    wrong = [float(((one(x) > 0) != y).float().mean()) for one in (network.eval(), model.average)]
    assert wrong[0] < 0.3  # how far 60 steps come depends on how a CPU rounds
    assert wrong[1] < wrong[0] + 0.1  # with the full decay from the start the average has 0.58


def test_average_is_never_trained_and_never_drops():
    model = EMAModel(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)), decay=0.9)
    model.train()
    x = torch.ones(5, 3)
    assert torch.equal(model.average(x), model.average(x))
    model(x).sum().backward()
    assert model.network[0].weight.grad is not None
    assert not any(p.requires_grad for p in model.average.parameters())


def test_average_travels_in_the_state():
    one, other = (EMAModel(nn.Linear(2, 2), decay=0.5) for _ in range(2))
    for _ in range(3):
        nn.init.normal_(one.network.weight)
        one.update()
    other.load_state_dict(one.state_dict())
    nn.init.ones_(one.network.weight)
    other.network.load_state_dict(one.network.state_dict())
    one.update()
    other.update()
    assert torch.equal(one.average.weight, other.average.weight)


def test_training_the_network_does_not_change_the_averages_batch_norms():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    model = EMAModel(network, decay=0.9)
    model.update()
    model.train()
    assert network.training
    before = {name: value.clone() for name, value in model.average.state_dict().items()}
    x = torch.randn(4, 1, 3, 3)
    assert torch.equal(model.average(x), model.average(x))
    assert all(torch.equal(value, before[name]) for name, value in model.average.state_dict().items())
