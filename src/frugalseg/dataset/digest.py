"""Knowing a scan's slices again, so that nothing is learned from an array that was exchanged, cut or shuffled."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLED = {"images": 8, "superpixels": 8}
"""Of these arrays so many slices of a scan are read, evenly spread: for a store of 100 GB that takes seconds. Labels,
which are small and which everything is learned from, are read whole."""


def hash_slices(stack: npt.NDArray[Any], array: str) -> str:
    """SHA-256 over shape, type and slices of a scan, the first and the last among them.

    Args:
        stack: (slices, S, S), perhaps mapped from a file.
        array: images, labels or superpixels.
    """
    digest = hashlib.sha256(f"{stack.shape} {stack.dtype.str}".encode())
    read = min(len(stack), SAMPLED.get(array, len(stack)))
    for z in np.linspace(0, len(stack) - 1, read).round().astype(int):
        digest.update(np.ascontiguousarray(stack[z]).data)
    return digest.hexdigest()
