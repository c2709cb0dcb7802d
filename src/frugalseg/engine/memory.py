"""How running out of memory is distinguished from other errors."""

from __future__ import annotations

import torch

MEMORY_ERRORS = ("can't allocate memory", "not enough memory", "cuda error: out of memory", "alloc_failed")
"""What PyTorch, CUDA, cuBLAS and cuDNN say, in lower case, where the memory is full: there is no error class for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, the processor's or a GPU's, is full."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in MEMORY_ERRORS)
