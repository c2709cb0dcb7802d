"""What a header claims, held against the file and the memory before anything is decoded.

A damaged header of a kilobyte may claim a volume of gigabytes; a reader that believes it takes the memory first and
finds the voxels missing later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from frugalseg.engine.host_memory import free_host_memory
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import format_shape

LARGEST_RATIO: dict[str, float] = {"raw": 1, "gzip": 1032, "text": 0.5, "hex": 0.5, "other": math.inf}
"""Packing → bytes of voxels that a stored byte can hold at most.

Deflate's is 1032 (zlib's technical notes); bzip2 and JPEG have none worth the name. A voxel in text takes a digit and a
space, whatever its type."""

LONGEST_AXIS = 1 << 24


def require_plausible(path: Path, shape: Sequence[int], voxel_bytes: int, stored: int, packing: str = "raw") -> None:
    """Raise `ScanError` where a header claims more voxels than its file or the memory can hold.

    Args:
        path: the file, for the message.
        shape: its axes as claimed.
        voxel_bytes: bytes of a voxel, all its channels together.
        stored: bytes of the file in which voxels may lie.
        packing: one of `LARGEST_RATIO`.
    """
    size = format_shape(shape)
    if not all(0 < axis <= LONGEST_AXIS for axis in shape):
        raise scan_error(path, f"claims {size} voxels: its header is damaged")
    claimed = math.prod(shape) * (1 if packing == "text" else voxel_bytes)
    if claimed > (stored + 1) * LARGEST_RATIO[packing]:  # the last number of a text needs no space after it
        raise scan_error(
            path,
            f"claims {size} voxels, but holds only {stored} bytes for them: it is cut short, or its header is damaged",
        )
    needed, free = math.prod(shape) * voxel_bytes, free_host_memory()
    if needed > free:
        raise scan_error(
            path,
            f"claims {size} voxels, which take {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free",
            "if its header is right, end other programs, take a machine with more memory, or crop the scan",
        )
