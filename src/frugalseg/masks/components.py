"""Which parts of a mask to keep: a model that saw few labels takes other organs for the target, in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from frugalseg.masks.runs import clear_runs, find_components, find_runs
from frugalseg.options import Keep

Bools = npt.NDArray[np.bool_]

TOUCHING = np.ones((3, 3, 3), dtype=bool)
IN_SLICE = ndimage.generate_binary_structure(2, 1)[np.newaxis]
ACROSS = np.ones((3, 1, 1), dtype=bool)

VOXELS_A_RUN = 64
"""A class of more runs than one in so many voxels is noise: to label its voxels then takes less memory."""

BRIDGE = 2
"""Half the width, in pixels of the model's slices, of a bridge that `core` cuts; half its height is one slice."""


def clean(classes: npt.NDArray[np.uint8], keep: Sequence[Keep], reach: int = BRIDGE) -> npt.NDArray[np.uint8]:
    """Turn what is not to be kept of each class into background, in place.

    all: everything stays. largest: the largest component; voxels that touch by a face, an edge or a corner belong
    together. core: what is left of the largest component when thin bridges to other parts are cut: the mask is
    eroded, the largest piece of that is chosen and grown back, a little further than it was eroded, inside the mask. A
    class too thin to be eroded keeps its largest component.

    Only the box around a class is worked on, so memory stays below one int32 copy of the volume.

    Args:
        classes: (Z, H, W) uint8, slices first; changed.
        keep: for the classes 1…C what to keep.
        reach: how far `core` erodes within a slice, in pixels: `BRIDGE` in the model's own slices.

    Returns:
        `classes`.
    """
    for number, box in enumerate(ndimage.find_objects(classes)[: len(keep)], start=1):
        if box is None or keep[number - 1] == "all":
            continue
        region = classes[box]
        if keep[number - 1] == "core":
            mask = region == number
            region[mask & ~_core(mask, reach)] = 0
        _keep_largest(region, number)
    return classes


def _core(mask: Bools, reach: int) -> Bools:
    """The mask near its largest piece after erosion; all of it where nothing is left."""
    eroded = ndimage.binary_erosion(ndimage.binary_erosion(mask, IN_SLICE, iterations=reach), ACROSS)
    if not eroded.any():
        return mask
    grown = _keep_largest(eroded.view(np.uint8), 1).view(np.bool_)
    grown = ndimage.binary_dilation(grown, IN_SLICE, iterations=reach + 1)
    near: Bools = ndimage.binary_dilation(grown, ACROSS, iterations=2)
    return near & mask


def _keep_largest(classes: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """Turn all but the largest component of one class into background, in place; of equals the first stays."""
    runs = find_runs(classes, number, most=classes.size // VOXELS_A_RUN)
    if runs is None:
        return _keep_largest_of_noise(classes, number)
    components = find_components(runs)
    sizes = np.bincount(components, weights=runs.ends - runs.begins)
    if len(sizes) > 1:
        clear_runs(classes, runs, components != sizes.argmax())
    return classes


def _keep_largest_of_noise(classes: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """The same voxel by voxel."""
    components, count = ndimage.label(classes == number, structure=TOUCHING)
    if count > 1:
        # A few planes at a time: NumPy would count, and compare, in copies larger than the labels themselves.
        planes = [slice(start, start + 16) for start in range(0, len(classes), 16)]
        sizes = np.sum([np.bincount(components[at].ravel(), minlength=count + 1) for at in planes], axis=0)
        largest = 1 + int(np.argmax(sizes[1:]))
        for at in planes:
            classes[at][(components[at] != 0) & (components[at] != largest)] = 0
    return classes
