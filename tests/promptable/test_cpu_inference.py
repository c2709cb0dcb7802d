"""The quick ways on a CPU give what PyTorch's own operations give, up to rounding in bf16."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.promptable.cpu_inference import affine, attend, gelu_of, is_quick
from frugalseg.promptable.tinyvit import TinyViTBlock


@pytest.fixture(autouse=True)
def quick():
    """Inference in bf16."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        if not is_quick(torch.zeros(1)):
            pytest.skip("this processor, or this build of PyTorch, has no fused layers in bf16")
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_attention_is_that_of_pytorch(spread):
    """With a spread of 30, scores are far too large for exponentials without subtracting the maximum."""
    packed = spread * torch.randn(3, 9, 2, 3, 8)
    q, k, v = packed.bfloat16().permute(3, 0, 2, 1, 4)
    biases = spread * torch.randn(2, 9, 9)
    with torch.autocast("cpu", enabled=False):
        expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), biases[None])
    found = attend(q, k, v, biases.bfloat16())
    assert found.dtype == torch.bfloat16
    if spread == 1:
        assert torch.allclose(found.float(), expected, atol=0.05)
    else:
        assert torch.isfinite(found).all()
        assert (found.float() - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize(("height", "width"), [(8, 12), (10, 13), (3, 9), (2, 3)])
def test_windows_without_fillers_are_those_filled_with_zeros(height, width):
    """Whole windows alone, windows beyond both borders, beyond one, and one window larger than the map."""
    block = TinyViTBlock(32, 2, 4)
    for parameter in block.attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(2, height, width, 32)
    with torch.autocast("cpu", enabled=False):
        expected = block._attend_in_windows(tokens)
    found = block.attention.of_map(tokens.bfloat16()).float()
    assert found.shape == expected.shape
    assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("gelu", [False, True])
def test_products_are_those_of_pytorch(gelu):
    x, weight, bias = torch.randn(2, 6, 5), torch.randn(7, 5), torch.randn(7)
    found = affine(x, weight, bias, gelu)
    assert found.dtype == torch.bfloat16
    with torch.autocast("cpu", enabled=False):
        expected = F.linear(x, weight, bias)
        assert torch.allclose(found.float(), F.gelu(expected) if gelu else expected, atol=0.06)
        assert torch.equal(affine(x, weight, bias, gelu), F.gelu(expected) if gelu else expected)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 8, 1), (2, 4, 6, 6)),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), (2, 8, 6, 6)),
        (nn.Linear(5, 7), (2, 3, 5)),
    ],
)
def test_gelu_of_a_layer_is_that_of_pytorch(layer, shape):
    x = torch.randn(shape)
    found = gelu_of(layer, x)
    assert found.dtype == torch.bfloat16
    with torch.autocast("cpu", enabled=False):
        assert torch.allclose(found.float(), F.gelu(layer(x)), atol=0.03)


def test_other_layers_are_called():
    layer = nn.Sequential(nn.Linear(5, 7))
    x = torch.randn(2, 5)
    assert torch.equal(gelu_of(layer, x), F.gelu(layer(x)))


def test_gradients_and_float32_take_pytorchs_way():
    layer, x = nn.Linear(5, 7), torch.randn(2, 5)
    with torch.enable_grad():
        assert not is_quick(x)
        gelu_of(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.autocast("cpu", enabled=False):
        assert not is_quick(x)
        assert gelu_of(layer, x).dtype == torch.float32
