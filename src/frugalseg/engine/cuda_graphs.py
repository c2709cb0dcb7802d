"""A training step, or a network's forward and backward pass, captured once as a CUDA graph and then replayed.

For a few small slices a GPU computes layers faster than Python can launch them: in a step of ten slices of 128² an H200
was busy for a quarter of the time. Replaying a graph is one launch.

`GraphedStep` captures a whole step: augmentation, forward, loss, backward, clipping and the optimiser. Where that is
not possible, `capture` records the network's passes alone. Random numbers come from PyTorch's generator of the GPU,
which a graph reads when it is replayed: seeded before every step, they are the same as without a graph.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")
WARM_UP = 3
"""Steps before the one that is captured: they make the optimiser's state, and let cuDNN choose its algorithms."""


class Recorder(Protocol):
    """Records a function that computes on tensors; see `GpuRecorder`."""

    def warm_up(self, function: Callable[[], Result]) -> Result:
        """Call the function."""

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """What computes again, on the same tensors, all that the function computes; nothing is computed yet.

        Raises:
            RuntimeError: the function cannot be recorded, or the memory is full.
        """


class GpuRecorder:
    """Records as a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], Result]) -> Result:
        """Call the function on the stream that will be captured."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """The replay of the function's graph."""
        gc.collect()  # a graph that is let go of while another is captured would spoil it
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context brings the current stream back where ending the capture fails. Of the errors of other
            # threads, which read the next batch, a capture must not know.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self.device)),
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                function()
        except RuntimeError:
            # A capture that failed leaves the generator waiting for its end: it gets a new state.
            generator = torch.cuda.default_generators[self.device.index or 0]
            generator.graphsafe_set_state(torch.Generator(self.device).graphsafe_get_state())
            raise
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        return graph.replay


class GraphedStep(Generic[Result]):
    """A training step that is replayed from its fourth call on.

    The calls before are real steps, and recording computes nothing, so no state has to be put back. A batch of other
    shapes than the recorded one is computed without the graph.

    Args:
        compute: the step: a batch, a dataclass of tensors and None → results.
        recordable: the same step in a form in which all that it depends on beside the batch and the random generators,
            and all that it changes, lies in tensors on the device that stay where they are.
        prepare: called before every replay; writes what changes from step to step into those tensors.
        recorder: records it.
        failed: called once where that is not possible; from then on, with this step, all are computed without a graph.
            It seeds the generators again.
    """

    def __init__(
        self,
        compute: Callable[[Any], Result],
        recordable: Callable[[Any], Result],
        prepare: Callable[[], None],
        recorder: Recorder,
        failed: Callable[[RuntimeError], None],
    ) -> None:
        self.compute, self.recordable, self.prepare = compute, recordable, prepare
        self.recorder, self.failed = recorder, failed
        self._calls = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, batch: Any) -> Result:
        """The results of the step; those of a replay live until the next one."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self.recorder.warm_up(lambda: self.compute(batch))
        if self._calls == WARM_UP + 1:
            self._record(batch)
        if self._replay is None or not _same_shapes(self._batch, batch):
            return self.compute(batch)
        for name, tensor in tensors_of(self._batch).items():
            tensor.copy_(getattr(batch, name))
        self.prepare()
        self._replay()
        return self._results

    def _record(self, batch: Any) -> None:
        self._batch = replace(batch, **{name: tensor.clone() for name, tensor in tensors_of(batch).items()})
        try:
            self._replay = self.recorder.record(self._compute_recorded)
        except RuntimeError as error:
            self.failed(error)

    def _compute_recorded(self) -> None:
        self._results = self.recordable(self._batch)


def tensors_of(batch: Any) -> dict[str, Tensor]:
    """The fields of a dataclass that are tensors."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _same_shapes(one: Any, other: Any) -> bool:
    first, second = tensors_of(one), tensors_of(other)
    return first.keys() == second.keys() and all(first[name].shape == second[name].shape for name in first)


def capture(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Capture the network's passes on inputs of this shape, to be replayed in training mode; its state is unchanged.

    In evaluation mode the network computes as before, on inputs of any shape. Call this under the autocast of training.

    Args:
        network: on a GPU; its parameters must keep their memory from now on. In training mode its outputs and gradients
            are overwritten by its next pass: use them, and set the gradients to None, before that.
        shape: of every input in training mode; inputs are copied, as float32, into the memory that the graph reads.
    """
    # Graphs of earlier networks are in reference cycles; freeing one during a capture would invalidate the capture.
    gc.collect()
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    device = next(network.parameters()).device
    network.train()
    kind = torch.get_autocast_dtype("cuda")
    try:
        # A replay would not convert the 16-bit copies of weights that autocast caches.
        with torch.autocast("cuda", kind, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            example = torch.rand(shape, device=device)
            torch.cuda.make_graphed_callables(network, (example,), allow_unused_input=True)
    finally:  # capturing runs the network, which changes the statistics of batch norm
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
    # Replayed passes stay on the stream of the capture; PyTorch would warn of that in every training.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
