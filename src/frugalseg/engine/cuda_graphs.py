"""A network's forward and backward pass, captured once as a CUDA graph and then replayed.

A GPU does the layers of a few small slices faster than Python can ask for them one by one: in a step of ten slices of
128² an H200 was at work for a quarter of the time. Replaying asks once.
"""

from __future__ import annotations

import gc

import torch
from torch import nn


def capture(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Let the network in training mode replay what it does to inputs of this shape; its state stays as it is.

    In evaluation mode it computes as before, on inputs of any shape. Call it in the autocast that training computes in.

    Args:
        network: on a GPU, with its parameters where they will stay. From now on its outputs and gradients in training
            mode live until its next pass only: use both, and set the gradients to None, before that.
        shape: of every input in training mode; inputs are copied to where the recorded pass reads them, as float32.
    """
    # Earlier networks hold their records in a circle of references, and one that is let go of while another is being
    # recorded would spoil it.
    gc.collect()
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    device = next(network.parameters()).device
    network.train()
    kind = torch.get_autocast_dtype("cuda")
    try:
        # Weights that autocast keeps in 16 bits from one layer to the next would not be converted again when replayed.
        with torch.autocast("cuda", kind, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            example = torch.rand(shape, device=device)
            torch.cuda.make_graphed_callables(network, (example,), allow_unused_input=True)
    finally:  # recording runs the network, and batch norm counts what it sees
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
    # What is recorded keeps the stream that it was recorded on; PyTorch would warn of that in every training.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
