"""Slices that show nothing."""

from __future__ import annotations

from torch import Tensor


def find_blank(slices: Tensor) -> Tensor:
    """Which slices (N, S, S) show nothing, every pixel having the same value: (N,) bool.

    Padding of scans is such. Networks may find organs there, so their predictions for such slices are not used.
    """
    pixels = slices.flatten(1)
    return pixels.amin(dim=1) == pixels.amax(dim=1)
