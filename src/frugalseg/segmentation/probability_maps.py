"""The probabilities of a model at the resolution of the scan, and how uncertain it is, as files that viewers open."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.imaging.volume import Reorientation, Volume, axial_slices

FOLDER = "probabilities"
UNCERTAINTY = "uncertainty"

STEPS = 255
"""Probabilities are stored in so many steps, with the slope in the header: NIfTI has no 16-bit floating-point type, and
32-bit ones compress to ten times the size."""

_SLOPE_AT = 112
"""Byte of a NIfTI-1 header at which slope and intercept stand (nibabel chooses its own when it writes)."""


class ProbabilityMaps:
    """The probabilities of a scan, collected slice by slice; in memory they take a byte per voxel and organ."""

    def __init__(self, organs: int, shape: tuple[int, ...]) -> None:
        self.planes = np.zeros((organs, *shape), np.uint8)
        self.uncertainty = np.zeros(shape, np.uint8)

    def add(self, chunk: slice, probabilities: Tensor) -> None:
        """Set some slices (N of Z) from probabilities (N, C, H, W) of the classes 1…C; the background has the rest."""
        for at, own in zip(range(chunk.start, chunk.start + len(probabilities)), probabilities.float(), strict=True):
            own = own.clamp(0, 1)
            self.planes[:, at] = _to_steps(own)
            self.uncertainty[at] = _to_steps(uncertainty(own))

    def to_files(
        self, case: str, organs: Sequence[str], written: Sequence[bool], scan: Volume, way: Reorientation
    ) -> dict[str, bytes]:
        """Name → content: <case>.<organ>.nii.gz for each organ that is written, and <case>.uncertainty.nii.gz."""
        maps = {organ: plane for organ, plane, own in zip(organs, self.planes, written, strict=True) if own}
        return {
            _name_map(case, name): _encode(scan.with_array(np.ascontiguousarray(way.undo(axial_slices(plane)))))
            for name, plane in {**maps, UNCERTAINTY: self.uncertainty}.items()
        }


def list_maps(case: str, organs: Sequence[str]) -> list[str]:
    """The names in `ProbabilityMaps.to_files` of a model that writes these organs; none without an organ."""
    return [_name_map(case, name) for name in (*organs, UNCERTAINTY)] if organs else []


def _name_map(case: str, name: str) -> str:
    return f"{FOLDER}/{case}.{name.replace(' ', '_')}.nii.gz"


def uncertainty(probabilities: Tensor) -> Tensor:
    """(C, H, W) probabilities of the classes 1…C → (H, W) entropy with the background, 0 (certain) to 1 (all alike)."""
    background = (1 - probabilities.sum(dim=0, keepdim=True)).clamp(0, 1)
    every = torch.cat([background, probabilities])
    entropy: Tensor = torch.special.entr(every).sum(dim=0).clamp(min=0) / float(np.log(len(every)))
    return entropy


def _to_steps(values: Tensor) -> npt.NDArray[np.uint8]:
    steps: npt.NDArray[np.uint8] = (values * STEPS).round().clamp(0, STEPS).to(torch.uint8).cpu().numpy()
    return steps


def _encode(volume: Volume) -> bytes:
    from frugalseg.imaging.nifti import to_nifti_image

    content = bytearray(to_nifti_image(volume).to_bytes())
    struct.pack_into("<ff", content, _SLOPE_AT, 1 / STEPS, 0.0)
    return gzip.compress(bytes(content), compresslevel=3, mtime=0)
