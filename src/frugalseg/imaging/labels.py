"""Read a mask of any format onto the grid of its scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from frugalseg.imaging.formats import scan_suffix, zarr_suffix
from frugalseg.imaging.grids import RESAMPLE, onto_grid
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Volume
from frugalseg.text import name_some


def read_labels_on(
    path: Path, scan: Volume, case: str, what: tuple[str, str] = ("labels", "image"), cure: str = RESAMPLE
) -> Volume:
    """A mask with the axes, affine and placement of its scan; see `read.read_labels` and `grids.onto_grid`.

    DICOM SEG and RTSTRUCT are placed in the scan's grid plane by plane: a voxel belongs to a contour if its centre is
    inside. Their label values are those of `segments.kinds.label_values`.

    Raises:
        ScanError: the mask cannot be read.
        PairingError: it lies on another grid.
    """
    file = find_mask_object(path)
    if file is None:
        return onto_grid(read_labels(path), scan, case, what, cure)
    from frugalseg.imaging.segments.kinds import mask_kind

    if mask_kind(file) == "seg":
        from frugalseg.imaging.segments.seg_reader import read_seg as read
    else:
        from frugalseg.imaging.segments.rtstruct_reader import read_rtstruct as read
    mask = read(file, scan)
    highest = int(mask.array.max())
    return mask.with_array(mask.array.astype(np.min_scalar_type(highest), copy=False))


def read_own_labels(path: Path, scan: Path | None, case: str) -> Volume:
    """A mask on its own grid; that of DICOM SEG and RTSTRUCT is the grid of their scan.

    Raises:
        ScanError: the mask or the scan cannot be read, or such a mask has no scan.
    """
    if find_mask_object(path) is None:
        return read_labels(path)
    if scan is None:
        raise scan_error(path, "states no grid of its own, and its scan is not known", "give the scans as --images")
    return read_labels_on(path, read_volume(scan), case)


def find_mask_object(path: Path) -> Path | None:
    """The DICOM SEG or RTSTRUCT file at a path: itself, or the only one in a folder; None for any other mask.

    Raises:
        ScanError: a folder holds several.
    """
    if scan_suffix(path) is not None or zarr_suffix(path) is not None:
        return None
    from frugalseg.imaging.segments.kinds import find_mask_objects, mask_kind

    if path.is_dir():
        found = find_mask_objects(path)
        if len(found) > 1:
            names = name_some(file.name for file in found)
            raise scan_error(path, f"holds {len(found)} masks as DICOM objects: {names}", "keep one for each scan")
        return found[0] if found else None
    return path if mask_kind(path) else None
