"""Attention and GELU in bf16 on a CPU, without gradients, in fewer passes over memory than PyTorch's own operations.

In PyTorch 2.13, fused attention over short sequences takes twice as long as the matrix products and the exponentials
that it consists of, and GELU takes longer than the depthwise convolution before it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAFE_SUMS = (1e-30, 1e30)
"""Where the sum of a row's exponentials lies between these, none of them was too large, or too small to count."""
NOTHING: tuple[str, list[float], str] = ("none", [], "")
GELU: tuple[str, list[float], str] = ("gelu", [], "none")
"""In oneDNN's terms: its name, no parameters, no approximation."""


def is_quick(x: Tensor) -> bool:
    """Whether the next operation on `x` computes in bf16, on a CPU that is fast at it, without gradients."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    computes = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return computes == torch.bfloat16 and _has_fused_layers()


@cache
def _has_fused_layers() -> bool:
    """Whether this build of PyTorch has oneDNN's layers with a function of their output, and they have bf16."""
    operations = torch.ops.mkldnn
    names = ("_is_mkldnn_bf16_supported", "_convolution_pointwise", "_linear_pointwise")
    return all(hasattr(operations, name) for name in names) and bool(operations._is_mkldnn_bf16_supported())


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """`F.linear`, and GELU of it; where `is_quick`, in the pass that writes the product."""
    if is_quick(x):
        x, weight, bias = _to_bf16(x), _to_bf16(weight), None if bias is None else _to_bf16(bias)
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *(GELU if gelu else NOTHING))
        return made
    made = F.linear(x, weight, bias)
    return F.gelu(made) if gelu else made


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's output; of a linear layer as by `affine`."""
    made: Tensor = affine(x, layer.weight, layer.bias) if type(layer) is nn.Linear else layer(x)
    return made


def gelu_of(layer: nn.Module, x: Tensor) -> Tensor:
    """GELU of the layer's output; where `is_quick`, convolutions and linear layers compute it as they write."""
    if type(layer) is nn.Linear:
        return affine(x, layer.weight, layer.bias, gelu=True)
    if type(layer) is not nn.Conv2d or not is_quick(x):
        return F.gelu(layer(x))
    x, weight, bias = _to_bf16(x), _to_bf16(layer.weight), None if layer.bias is None else _to_bf16(layer.bias)
    places = (layer.padding, layer.stride, layer.dilation, layer.groups)
    made: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *places, *GELU)
    return made


def _to_bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16)


def attend(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor) -> Tensor:
    """Softmax attention where `is_quick`.

    The exponentials are taken without subtracting each row's maximum, unless a score is too large for that.

    Args:
        queries: (N, heads, L, d) bf16.
        keys, values: (N, heads, K, d) bf16.
        biases: (heads, L, K), added to the scaled scores.

    Returns:
        (N, heads, L, d) bf16.
    """
    weights = _score(queries, keys, biases).exp_()
    sums = weights.sum(dim=-1, keepdim=True)
    lowest, highest = sums.aminmax()
    if not (lowest > SAFE_SUMS[0] and highest < SAFE_SUMS[1]):
        weights = _score(queries, keys, biases).softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        sums = torch.ones_like(sums)
    mixed = torch.bmm(weights.flatten(0, 1), values.flatten(0, 1)).view(queries.shape)
    return mixed.div_(sums)


def _score(queries: Tensor, keys: Tensor, biases: Tensor) -> Tensor:
    """The scaled scores (N, heads, L, K) with their biases."""
    q, k = queries.flatten(0, 1), keys.flatten(0, 1)
    # Without its first argument (beta=0) this is a product whose scale costs no pass.
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return scores.view(*queries.shape[:3], -1).add_(biases)
