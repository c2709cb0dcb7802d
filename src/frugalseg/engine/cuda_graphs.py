"""A network's forward and backward pass, captured once as a CUDA graph and then replayed.

For a few small slices a GPU computes layers faster than Python can launch them: in a step of ten slices of 128² an H200
was busy for a quarter of the time. Replaying a graph is one launch.
"""

from __future__ import annotations

import gc

import torch
from torch import nn


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
