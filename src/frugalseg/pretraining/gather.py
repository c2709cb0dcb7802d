"""Gather the parts of a batch from all processes, so that negatives come from the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, concatenated along the first axis in the order of the processes.

    All must have the same shape. It is differentiable: each process gets the sum over all processes of the gradients
    for its part. When every process computes the same loss on the gathered tensors, that sum is the number of processes
    times the loss's gradient; data-parallel training averages over processes, which gives the gradient of a single
    process with the whole batch. With one process it returns the tensor itself.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    joined: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return joined


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums over the processes; works with NCCL and gloo alike."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.length = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        start = dist.get_rank() * ctx.length
        return summed[start : start + ctx.length]
