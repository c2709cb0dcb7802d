"""Identifies a scan by its voxels, independently of its file name."""

from __future__ import annotations

import hashlib

import numpy as np

from frugalseg.imaging.volume import Volume


def fingerprint(canonical: Volume) -> str:
    """SHA-256 of the voxels of a canonical volume, as float32 with its shape.

    It does not depend on file type, compression, stored data type or the order of the axes, so that a copy of a
    training scan among the test scans is recognised under any name.
    """
    digest = hashlib.sha256(repr(canonical.array.shape).encode())
    for z in range(canonical.array.shape[2]):
        digest.update(np.ascontiguousarray(canonical.array[:, :, z], dtype=np.float32).data)
    return digest.hexdigest()
