"""How the C library treats the large blocks that a training step on the CPU frees."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's parameters (malloc.h)."""
LARGEST_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Let the process keep blocks of up to 1 GiB that it frees, to use them again.

    glibc returns blocks above 32 MiB to the system at once and allocates them again, page by page, for the next layer.
    Activations of a batch are that large, and a training step on the CPU spends up to a third of its time on it. The
    price is memory: about a fifth more at the peak, and none returned before the process ends.

    Returns:
        Whether it could be set; not where the C library is another one.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(TRIM_THRESHOLD, -1))
