"""Dropout with random bytes drops like PyTorch's: independently, with its probability, and scales what it keeps."""

import pytest
import torch
from torch import nn

from frugalseg.models.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("p", [0.25, 0.1])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(dtype, layout, p):
    torch.manual_seed(0)
    x = torch.ones(6, 7, 50, 51, dtype=dtype).to(memory_format=layout)
    found = Dropout(p)(x)
    assert found.dtype == dtype
    assert found.stride() == x.stride()
    kept = found != 0
    assert (found[kept] == torch.tensor(1 / (1 - p), dtype=dtype)).all()
    assert abs(kept.double().mean() - (1 - p)) < 0.005
    for axis in range(4):  # no share depends on the place
        others = [other for other in range(4) if other != axis]
        assert (kept.double().mean(others) - (1 - p)).abs().max() < 0.05


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.25)(torch.ones(400_000)) != 0).double() - 0.75
    for shift in range(1, 17):
        assert abs((kept[shift:] * kept[:-shift]).mean()) < 4 * 0.1875 / 400_000**0.5


def test_gradients_pass_where_values_do():
    x = torch.rand(3, 4, 5, 6, requires_grad=True)
    found = Dropout(0.25)(x)
    found.sum().backward()
    assert torch.allclose(x.grad, found / x)


def test_a_seed_repeats_it_and_evaluation_changes_nothing():
    layer, x = Dropout(0.25), torch.rand(1000)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(layer.eval()(x), x)
    assert isinstance(layer, nn.Dropout)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_none_and_all(p):
    assert torch.equal(Dropout(p)(torch.ones(9)), torch.full((9,), 1 - p))
