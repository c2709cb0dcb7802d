"""What a CUDA graph does, on the CPU: the operations of a function are recorded once, and replayed without its Python.

A replay computes on the recorded tensors and numbers. A Python number that changes from step to step keeps its first
value, and reading a number back is an error, as in a capture on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from frugalseg.engine import loop

READ_BACK = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select"}


class _Notes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self.before = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in READ_BACK:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        kwargs = kwargs or {}
        if any(isinstance(one, Tensor) and one.device.type != "cpu" for one in tree_leaves((args, kwargs))):
            raise RuntimeError("a tensor of another device")
        statistics = "batch_norm" in func.overloadpacket.__name__  # its schema is silent about what it changes
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if statistics or (argument.alias_info is not None and argument.alias_info.is_write):
                self.before += [(one, one.clone()) for one in tree_leaves(value) if isinstance(one, Tensor)]
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result


class CpuRecorder:
    """In place of `GpuRecorder`. Recording computes, but leaves all tensors and the random numbers as they were."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def warm_up(self, function):
        return function()

    def record(self, function):
        drawn, notes = torch.get_rng_state(), _Notes()
        try:
            with notes:
                function()
        finally:
            torch.set_rng_state(drawn)
            with torch.no_grad():
                for tensor, before in reversed(notes.before):
                    tensor.copy_(before)
        self.recorded += 1

        def replay():
            self.replayed += 1
            with torch.no_grad():
                for call in notes.calls:
                    _repeat(*call)

        return replay


def _repeat(func, args, kwargs, noted):
    taken = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
    for old, new in zip(tree_leaves(noted), tree_leaves(func(*args, **kwargs)), strict=True):
        if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in taken:  # neither a view nor in place
            old.copy_(new)


class CallRecorder(CpuRecorder):
    """Calls the function again in place of a replay: what a replay must give, bit for bit."""

    def record(self, function):
        return function


def train_as_on_a_gpu(monkeypatch, recorder=CpuRecorder):
    """Let trainings on the CPU go the way of one GPU; returns the list of the recorders that they make."""
    made = []

    def make(device):
        made.append(recorder())
        return made[-1]

    monkeypatch.setattr(loop.cuda_graphs, "GpuRecorder", make)
    monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self: True)
    monkeypatch.setattr(loop.cuda_graphs, "capture", lambda *given: None)
    return made
