"""What several processes that share one training agree on: options, batch norms, sums over the batch, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from frugalseg.errors import OptionError, RunError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def check_batch_norm(network: nn.Module, fabric: Fabric) -> None:
    """Raise `OptionError` for a network with batch norm that several processes without a GPU would train.

    Its statistics are those of the whole batch, which PyTorch's `SyncBatchNorm` computes on GPUs only.
    """
    if fabric.world_size > 1 and fabric.device.type == "cpu" and has_batch_norm(network):
        raise OptionError(
            f"this network has batch norm, whose statistics {fabric.world_size} processes can share on GPUs only",
            "start one process; or choose a network without it: --norm instance_affine, where the backbone and the "
            "method have that choice",
        )


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any layer normalises over the slices of a batch."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def share_batch_norm(network: nn.Module, fabric: Fabric) -> nn.Module:
    """The network, with batch norms over the slices of all processes where there are several.

    Its parameters stay the same objects, so that an optimiser keeps them.
    """
    if fabric.world_size == 1 or not has_batch_norm(network):
        return network
    check_batch_norm(network, fabric)
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def check_same_everywhere(content: object, fabric: Fabric) -> None:
    """Raise `RunError`, in every process, if the processes were given different options.

    Args:
        content: the options of this process, as plain data.
        fabric: the processes.
    """
    if fabric.world_size == 1:
        return
    found: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(found, content)
    if any(other != found[0] for other in found):
        raise RunError(
            f"{fabric.world_size} processes were started together with different options",
            "give all the same options; for separate trainings under srun, set SLURM_NTASKS=1 before the command",
        )


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of the tensors of all processes; of a single process, the tensor itself.

    It is differentiable: each process gets the sum of the gradients of all. Where every process computes the same loss
    from the sums, the mean over processes, which data-parallel training takes, is the gradient of a single process with
    the whole batch.
    """
    if not _is_shared():
        return tensor
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def share_of_mean(total: Tensor, count: Tensor) -> Tensor:
    """This process's part of `total / count`, both summed over all processes: the mean of the parts is the quotient.

    Args:
        total: sum over the pixels or slices of this process, differentiable.
        count: their number or weight, without a gradient; at least 1 is taken of all processes.
    """
    if not _is_shared():
        return total / count.clamp(min=1)
    return total * dist.get_world_size() / sum_over_processes(count).clamp(min=1)


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """All-reduce whose backward sums over the processes; works with NCCL and gloo alike."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


class SharedStop:
    """Requests to stop, by which all processes stop after the same step, whichever was asked, and however late.

    A process that stopped alone would leave the others waiting for its gradients. Whether any was asked is found out
    during a step, so that nobody waits for the answer.

    Args:
        requests: the requests to this process so far; grows while the training runs.
        fabric: the processes.
    """

    def __init__(self, requests: Sequence[str], fabric: Fabric) -> None:
        self._requests = requests
        self._asked = torch.zeros((), dtype=torch.int32)
        self._wait: Callable[[], object] | None = None
        # Of its own, on the CPU: a GPU's would wait for the step before.
        self._group = dist.new_group(backend="gloo") if fabric.world_size > 1 else None

    def begin_step(self) -> None:
        """Begin to ask the other processes; call it at the same place of every step."""
        if self._group is not None:
            self._asked.fill_(len(self._requests))
            self._wait = dist.all_reduce(self._asked, dist.ReduceOp.MAX, self._group, async_op=True).wait

    def find_request(self) -> str | None:
        """The request to stop after this step, the same for all processes; None without any."""
        if self._group is None:
            return self._requests[0] if self._requests else None
        if self._wait is not None:
            self._wait()
            self._wait = None
        if not int(self._asked):
            return None
        return self._requests[0] if self._requests else "a signal to another process"
