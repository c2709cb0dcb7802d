"""Connected components of an organ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

EVERY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


def keep_largest(classes: npt.NDArray[np.uint8], numbers: list[int]) -> npt.NDArray[np.uint8]:
    """Turn all but the largest component of each class into background, in place.

    Voxels that touch by a face, an edge or a corner belong together. Only the box around the class is labelled,
    so memory stays below one int32 copy of the volume.

    Args:
        classes: (X, Y, Z) uint8; changed.
        numbers: the classes to clean.

    Returns:
        `classes`.
    """
    for number, box in enumerate(ndimage.find_objects(classes), start=1):
        if number not in numbers or box is None:
            continue
        region = classes[box]
        components, count = ndimage.label(region == number, structure=EVERY_NEIGHBOUR)
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            region[(components != 0) & (components != sizes.argmax())] = 0
    return classes
