"""How much memory long work will need, told before it begins.

For training, a network runs once on tensors without data (PyTorch's meta device), forwards and backwards; for
inference, on one slice. The bytes of all tensors that are alive at the same time are counted, and what the process has
already is added. Memory that libraries take beside tensors is not counted: see `OVERHEAD`.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from frugalseg.engine.host_memory import free_host_memory, used_memory
from frugalseg.engine.progress import say

OVERHEAD = 1.6
"""Memory that is really taken, as a multiple of the tensors': workspaces of convolutions, and freed blocks that are
kept (see `engine.allocator`). It is 1.3 to 1.8 for the networks of `models`."""
MIXED = 0.6
"""With a precision of 16 bits, the same in proportion to 32 bits."""
ADAM_STATES = 2
"""Tensors of each parameter that the optimiser keeps."""


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations create while they are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_iter(made):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
        return made

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()

        def remove(_: Any) -> None:
            self.now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, remove)
        self.now += size
        self.peak = max(self.peak, self.now)


def measure_live_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that `work` creates and that are alive at the same time."""
    with _LiveBytes() as live, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes: the real run gives them too
        work()
    peak: int = live.peak
    return peak


def count_training_bytes(
    network: nn.Module, shape: tuple[int, ...], device: torch.device, mixed: bool = False
) -> int | None:
    """Bytes that training takes beside what is there: activations, gradients, the optimiser's states.

    Args:
        network: on the CPU; it takes one batch of images, and is not changed.
        shape: of the batch.
        device: where it will be trained.
        mixed: whether with a precision of 16 bits.

    Returns:
        The bytes; None for a network that cannot run without data.
    """
    parameters = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)

    def step() -> None:
        made = [one for one in tree_iter(twin(torch.empty(shape, device="meta"))) if isinstance(one, Tensor)]
        torch.stack([one.float().square().mean() for one in made]).sum().backward()  # type: ignore[no-untyped-call]

    twin = _to_meta(network).train()
    if (live := _try(step)) is None:
        return None
    states = (ADAM_STATES + (device.type != "cpu")) * parameters
    return round(OVERHEAD * live * (MIXED if mixed else 1)) + states


def count_inference_bytes(one: Callable[[], object], batch: int) -> int:
    """Bytes that a batch takes in evaluation mode, beside what is there.

    Args:
        one: computes a single slice, which is done once.
        batch: slices of a batch.
    """
    with torch.inference_mode():
        return round(OVERHEAD * batch * measure_live_bytes(one))


def _to_meta(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to("meta")


def _try(step: Callable[[], None]) -> int | None:
    try:
        return measure_live_bytes(step)
    except (RuntimeError, NotImplementedError, TypeError):  # an operation needs values, not only shapes
        return None


def tell_memory(tensors: int | None, device: torch.device, more: int = 0) -> None:
    """Print how much memory the work that follows needs, and warn where that is more than there is.

    Args:
        tensors: bytes of tensors on the device, beside what is there now; None where unknown, then nothing is printed.
        device: where they will be.
        more: bytes of main memory that it takes besides.
    """
    if tensors is None:
        return
    needed, there = estimate_memory(tensors, device, more)
    place = "GPU memory" if device.type == "cuda" else "memory"
    say(f"needs about {format_gb(needed)} of {format_gb(there)} GB {place}")
    if needed > there:
        warnings.warn(
            f"this may not fit: about {format_gb(needed)} GB of {place} are needed, {format_gb(there)} GB are there. "
            "Give a smaller --batch-size, or use a machine with more memory",
            stacklevel=2,
        )


def estimate_memory(tensors: int, device: torch.device, more: int = 0) -> tuple[int, int]:
    """The bytes that will be used, with what is used now, and the bytes that there are, for a device.

    Limits of containers and of the process count, see `engine.host_memory`.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_reserved(device)
        return used + tensors, used + free
    used = used_memory()
    return used + tensors + more, used + free_host_memory()


def format_gb(size: int) -> str:
    """Bytes in GB: 0.84, 3.1, 22."""
    gigabytes = size / 1e9
    return f"{gigabytes:.2f}" if gigabytes < 1 else f"{gigabytes:.1f}" if gigabytes < 10 else f"{gigabytes:.0f}"
