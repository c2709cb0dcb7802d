"""A scan's identity, whatever its file is called."""

from __future__ import annotations

import hashlib

import numpy as np

from frugalseg.imaging.volume import Volume


def fingerprint(canonical: Volume) -> str:
    """SHA-256 of the voxels of a canonical volume, as float32 with its shape.

    File type, compression, stored data type and the order of the axes do not change it, so a copy of a training
    scan is recognised among the test scans under any name.
    """
    digest = hashlib.sha256(repr(canonical.array.shape).encode())
    for z in range(canonical.array.shape[2]):
        digest.update(np.ascontiguousarray(canonical.array[:, :, z], dtype=np.float32).data)
    return digest.hexdigest()
