"""Scans whose voxels stay on disk and are read slice by slice, as `imaging.read` reads them whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.engine.files import atomic_write
from frugalseg.errors import StoreError, disk_errors
from frugalseg.imaging.formats import NIFTI, scan_suffix
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Placement, Volume

_FIELD = "field."
"""Before the names of header fields in the file that describes a cached scan."""


def map_volume(path: Path, cache: Path) -> Volume:
    """A scan with the values of `read_volume`, mapped from a file instead of held in memory.

    An uncompressed NIfTI file of integers is mapped as it is. Other NIfTI files are unpacked once, in blocks of
    slices, into `cache`; scans of other formats are read whole once and written there.

    Args:
        path: the scan.
        cache: path without suffix of two files for this scan in this state; a later call with the same path reads
            them.

    Raises:
        ScanError: see `read_volume`.
        DiskError: the cache cannot be written.
        StoreError: it is damaged, or was deleted meanwhile.
    """
    if (kept := _read_cached(path, cache)) is not None:
        return kept
    if scan_suffix(path) not in NIFTI:
        volume = read_volume(path)
        _write_cached(cache, volume, [volume.array], lowest=None)
    else:
        from frugalseg.imaging.nifti import map_nifti, stream_nifti  # nibabel is slow to import

        if (mapped := map_nifti(path)) is not None:
            return mapped
        volume, blocks = stream_nifti(path)
        _write_cached(cache, volume, blocks, lowest=_Lowest(path) if volume.array.dtype.kind == "f" else None)
    if (found := _read_cached(path, cache)) is None:
        raise StoreError(f"{cached_files(cache)[0]} was deleted while the scan was opened", "open it again")
    return found


def cached_files(cache: Path) -> tuple[Path, Path]:
    """The voxels, and the description, of the scan that `map_volume` keeps at `cache`."""
    return cache.with_name(f"{cache.name}.npy"), cache.with_name(f"{cache.name}.npz")


def _read_cached(path: Path, cache: Path) -> Volume | None:
    voxels, description = cached_files(cache)
    if not (voxels.is_file() and description.is_file()):
        return None
    try:
        array: Array = np.load(voxels, mmap_mode="r")
        with np.load(description) as kept:
            fields = {name.removeprefix(_FIELD): kept[name] for name in kept.files if name.startswith(_FIELD)}
            placement = Placement(fields, tuple(map(str, kept["doubts"])))
            padding = float(kept["padding"])
            return Volume(array, kept["affine"], path, placement, None if np.isnan(padding) else padding)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise StoreError(f"{voxels} is damaged ({error})", "delete it: it is made again from the scan") from error


class _Lowest:
    """Keeps the lowest finite value of blocks, by which NaN and infinities are replaced at the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.value, self.bad = path, np.inf, False

    def see(self, block: Array) -> None:
        finite = np.isfinite(block)
        self.bad = self.bad or not bool(finite.all())
        self.value = min(self.value, float(np.min(block, initial=np.inf, where=finite)))

    def replace_nonfinite(self, voxels: Path) -> None:
        if not self.bad:
            return
        if self.value == np.inf:
            raise scan_error(self.path, "has no finite value: every voxel is NaN or infinite", "export the scan again")
        array: Array = np.load(voxels, mmap_mode="r+")
        for z in range(array.shape[2]):
            plane = array[:, :, z]
            plane[~np.isfinite(plane)] = self.value


def _write_cached(cache: Path, volume: Volume, blocks: Iterable[Array], lowest: _Lowest | None) -> None:
    """Write the voxels, then the description, after which the scan counts as cached."""
    voxels, description = cached_files(cache)
    with disk_errors(voxels), atomic_write(voxels) as file:
        header = {"descr": np.lib.format.dtype_to_descr(volume.array.dtype), "fortran_order": True}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": volume.array.shape})
        for block in blocks:
            if lowest is not None:
                lowest.see(block)
            for z in range(block.shape[2]):
                file.write(np.asfortranarray(block[:, :, z]).tobytes(order="F"))
    if lowest is not None:
        lowest.replace_nonfinite(voxels)
    described: dict[str, Any] = {_FIELD + name: value for name, value in volume.placement.fields.items()}
    described |= {"affine": volume.affine, "doubts": np.array(volume.placement.doubts, np.str_)}
    with atomic_write(description) as file:
        np.savez(file, padding=np.nan if volume.padding is None else volume.padding, **described)


def sample_planes(volume: Volume, count: int = 24) -> Volume:
    """A volume of evenly spaced slices along the last axis, in memory, for an estimate of the range of values."""
    chosen = np.unique(np.linspace(0, volume.array.shape[2] - 1, count).round().astype(int))
    return replace(volume, array=np.ascontiguousarray(volume.array[:, :, chosen]))
