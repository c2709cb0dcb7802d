"""Component filtering: a model trained on few labels also segments pieces of other organs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from frugalseg.masks.runs import clear_runs, find_components, find_runs
from frugalseg.options import Keep

Bools = npt.NDArray[np.bool_]

TOUCHING = np.ones((3, 3, 3), dtype=bool)
CROSS_IN_SLICE = ndimage.generate_binary_structure(2, 1)[np.newaxis]
ACROSS_SLICES = np.ones((3, 1, 1), dtype=bool)

VOXELS_A_RUN = 64
"""A class of more runs than one in so many voxels is noise: to label its voxels then takes less memory."""

BRIDGE_RADIUS = 2
"""Half the width of the bridges that `core` removes, in pixels of the model's slices; half their height is 1 slice."""


def filter_components(
    classes: npt.NDArray[np.uint8], keep: Sequence[Keep], reach: int = BRIDGE_RADIUS
) -> npt.NDArray[np.uint8]:
    """Set the components that are not kept of each class to background, in place.

    all: keep everything. largest: keep the largest component, 26-connected. core: keep the largest component without
    thin connections to other parts: the mask is eroded, and its largest remaining component is dilated, slightly
    further than it was eroded, within the mask. A class too thin to be eroded keeps its largest component.

    Only the bounding box of a class is processed, so memory stays below one int32 copy of the volume.

    Args:
        classes: (Z, H, W) uint8; changed.
        keep: what to keep of each of the classes 1…C.
        reach: how far `core` erodes within a slice, in pixels: `BRIDGE_RADIUS` for slices of the model's size.

    Returns:
        `classes`.
    """
    for number, box in enumerate(ndimage.find_objects(classes)[: len(keep)], start=1):
        if box is None or keep[number - 1] == "all":
            continue
        region = classes[box]
        if keep[number - 1] == "core":
            mask = region == number
            region[mask & ~_find_core(mask, reach)] = 0
        _keep_largest(region, number)
    return classes


def _find_core(mask: Bools, reach: int) -> Bools:
    """The mask near its largest component after erosion; the whole mask where erosion leaves nothing."""
    eroded = ndimage.binary_erosion(ndimage.binary_erosion(mask, CROSS_IN_SLICE, iterations=reach), ACROSS_SLICES)
    if not eroded.any():
        return mask
    grown = _keep_largest(eroded.view(np.uint8), 1).view(np.bool_)
    grown = ndimage.binary_dilation(grown, CROSS_IN_SLICE, iterations=reach + 1)
    near: Bools = ndimage.binary_dilation(grown, ACROSS_SLICES, iterations=2)
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
        # A few slices at a time: NumPy counts and compares in copies that are larger than the labels.
        planes = [slice(start, start + 16) for start in range(0, len(classes), 16)]
        sizes = np.sum([np.bincount(components[at].ravel(), minlength=count + 1) for at in planes], axis=0)
        largest = 1 + int(np.argmax(sizes[1:]))
        for at in planes:
            classes[at][(components[at] != 0) & (components[at] != largest)] = 0
    return classes
