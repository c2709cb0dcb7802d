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
            # A few planes at a time: NumPy would count, and compare, in copies larger than the labels themselves.
            planes = [slice(start, start + 16) for start in range(0, len(region), 16)]
            sizes = np.sum([np.bincount(components[at].ravel(), minlength=count + 1) for at in planes], axis=0)
            largest = 1 + int(np.argmax(sizes[1:]))
            for at in planes:
                region[at][(components[at] != 0) & (components[at] != largest)] = 0
    return classes
