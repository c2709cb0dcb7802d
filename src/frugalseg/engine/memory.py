"""Distinguishes lack of memory from other errors."""

from __future__ import annotations

import sys

MEMORY_ERRORS = (
    "can't allocate memory",
    "not enough memory",
    "cuda error: out of memory",
    "alloc_failed",
    "mps backend out of memory",
)
"""Messages of PyTorch and its libraries, in lower case, when memory is full; there is no error class for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that main memory or GPU memory is full."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for this: where it is not there, it raised no error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in MEMORY_ERRORS)
