"""Hashes of the slices of a scan, so that no training uses arrays that were replaced, truncated or shuffled."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLED = {"images": 8, "superpixels": 8}
"""Array → number of slices per scan that are hashed, evenly spaced, so that a store of 100 GB is checked in seconds.
Labels, which are small and essential, are hashed completely."""


def hash_slices(stack: npt.NDArray[Any], array: str) -> str:
    """SHA-256 of the shape, data type and slices of a scan, including the first and the last.

    Args:
        stack: (slices, S, S), possibly memory-mapped.
        array: images, labels or superpixels.
    """
    digest = hashlib.sha256(f"{stack.shape} {stack.dtype.str}".encode())
    read = min(len(stack), SAMPLED.get(array, len(stack)))
    for z in np.linspace(0, len(stack) - 1, read).round().astype(int):
        digest.update(np.ascontiguousarray(stack[z]).data)
    return digest.hexdigest()
