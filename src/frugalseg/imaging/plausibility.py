"""Checks the size that a header claims against the file and the free memory, before anything is decoded.

A damaged header of one kilobyte may claim a volume of gigabytes. A reader that trusts it allocates the memory first
and finds out later that the voxels are missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from frugalseg.engine.host_memory import free_host_memory
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import format_shape

LARGEST_RATIO: dict[str, float] = {"raw": 1, "gzip": 1032, "text": 0.5, "hex": 0.5, "other": math.inf}
"""Packing → largest number of voxel bytes that one stored byte can hold.

For deflate it is 1032 (zlib's technical notes); for bzip2 and JPEG there is no useful limit. A voxel written as text
takes at least a digit and a space, whatever its type."""

LONGEST_AXIS = 1 << 24


def require_plausible(path: Path, shape: Sequence[int], voxel_bytes: int, stored: int, packing: str = "raw") -> None:
    """Raise `ScanError` if a header claims more voxels than the file or the free memory can hold.

    Args:
        path: the file, for the message.
        shape: size of each axis, as claimed.
        voxel_bytes: bytes per voxel, all channels together.
        stored: bytes of the file that may hold voxels.
        packing: one of `LARGEST_RATIO`.
    """
    size = format_shape(shape)
    if not all(0 < axis <= LONGEST_AXIS for axis in shape):
        raise scan_error(path, f"claims {size} voxels: its header is damaged")
    claimed = math.prod(shape) * (1 if packing == "text" else voxel_bytes)
    if claimed > (stored + 1) * LARGEST_RATIO[packing]:  # +1: in text, no space follows the last number
        raise scan_error(
            path,
            f"claims {size} voxels, but holds only {stored} bytes for them: it is truncated, or its header is damaged",
        )
    needed, free = math.prod(shape) * voxel_bytes, free_host_memory()
    if needed > free:
        raise scan_error(
            path,
            f"claims {size} voxels, which need {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free",
            "if its header is correct, close other programs, use a machine with more memory, or crop the scan",
        )
