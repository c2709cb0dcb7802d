"""Attention and GELU in bf16 on a CPU, without gradients, in fewer passes over memory than PyTorch's own operations.

In PyTorch 2.13, fused attention over short sequences takes twice as long as the matrix products and the exponentials
that it consists of, and GELU takes longer than the depthwise convolution before it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAFE_SCORE = 80.0
"""Sums of exponentials of ± this are finite, and not 0, in bf16."""
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


def gelu_of(layer: nn.Module, x: Tensor) -> Tensor:
    """GELU of the layer's output; where `is_quick`, convolutions and linear layers compute it as they write."""
    if type(layer) not in (nn.Conv2d, nn.Linear) or not is_quick(x):
        return F.gelu(layer(x))
    x, weight = x.to(torch.bfloat16), layer.weight.to(torch.bfloat16)
    bias = None if layer.bias is None else layer.bias.to(torch.bfloat16)
    made: Tensor
    if isinstance(layer, nn.Conv2d):
        places = (layer.padding, layer.stride, layer.dilation, layer.groups)
        made = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *places, *GELU)
    else:
        made = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *GELU)
    return made


def attend(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor) -> Tensor:
    """Softmax attention where `is_quick`.

    The exponentials are taken without subtracting each row's maximum, unless a score is too large for that.

    Args:
        queries, keys, values: (N, heads, L, d) bf16.
        biases: (heads, L, L), added to the scaled scores.

    Returns:
        (N, heads, L, d) bf16.
    """
    count, heads, length, channels = queries.shape
    q, k, v = (part.reshape(-1, length, channels) for part in (queries * channels**-0.5, keys, values))
    weights = torch.bmm(q, k.transpose(1, 2)).view(count, heads, length, length).add_(biases)
    lowest, highest = weights.aminmax()
    if -SAFE_SCORE < lowest and highest < SAFE_SCORE:
        weights.exp_()
    else:
        weights = weights.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    mixed = torch.bmm(weights.flatten(0, 1), v).view(queries.shape)
    return mixed / weights.sum(dim=-1, keepdim=True)
