from __future__ import annotations

import torch
from torch import nn

from frugalseg.segmentation.ema import EMAModel


def test_average_follows_the_formula_and_starts_at_the_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    model = EMAModel(network, decay=0.75)
    expected = None
    for step in range(4):
        nn.init.normal_(network[0].weight)
        model.update()
        weight = network[0].weight.detach()
        expected = weight.clone() if step == 0 else 0.75 * expected + 0.25 * weight
        assert torch.allclose(model.average[0].weight, expected, atol=1e-6)


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
