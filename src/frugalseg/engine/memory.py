"""How running out of memory is distinguished from other errors."""

from __future__ import annotations

import sys

FULL = ("can't allocate memory", "not enough memory", "cuda error: out of memory", "alloc_failed")
"""What PyTorch, CUDA, cuBLAS and cuDNN say, in lower case, where the memory is full: there is no error class for it."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, the processor's or a GPU's, is full."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for this: where it is not there, it raised no error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in FULL)
