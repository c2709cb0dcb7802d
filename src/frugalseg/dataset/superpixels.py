"""SLIC superpixels of every slice, stored with the images: computed once, used in every training step.

The published code (SuperCL, arXiv 2504.14737) gives SLIC three equal channels, which scikit-image converts to Lab; its
compactness of 10 therefore refers to the lightness scale, 0 to 100. Grey pixels have no chroma, so that the lightness
alone gives the same superpixels.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.digest import hash_slices
from frugalseg.dataset.shards import write_shards
from frugalseg.dataset.store import SUPERPIXELS, SliceStore
from frugalseg.dataset.store_lock import lock_store
from frugalseg.engine.files import atomic_write
from frugalseg.engine.parallel import format_failures, map_cases
from frugalseg.engine.progress import say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import ScanError, StoreError, disk_errors
from frugalseg.options import SuperpixelOptions
from frugalseg.records.store import SuperpixelParameters

LIGHTEST = 100.0
"""L* of white."""
MAP_TYPE = np.dtype(np.uint16)


@dataclass(frozen=True)
class Slic:
    """How superpixels are computed.

    Attributes:
        segments: approximate number per slice; fewer in uniform images.
        compactness: weight of spatial distance against intensity difference, in units of lightness (0…100).
    """

    segments: int
    compactness: float

    @classmethod
    def for_size(cls, size: int, segments: int | None, compactness: float) -> Slic:
        """With the given number of segments, or such that each covers about ten cells of a feature map at 1/16 size."""
        return cls(segments or max(16, round(100 * (size / 512) ** 2)), compactness)

    def __call__(self, image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint16]:
        """(S, S) in [0, 1] → (S, S) uint16, superpixels 0, 1, …; a constant image is one superpixel."""
        from skimage.segmentation import slic  # slow to import

        light = lightness(image)
        if not light.max() > light.min():
            return np.zeros(image.shape, np.uint16)
        # scikit-image rescales its input to [0, 1], hence the division of the compactness.
        segments = slic(light, self.segments, self.compactness / LIGHTEST, start_label=0, channel_axis=None)
        found: npt.NDArray[np.uint16] = segments.astype(np.uint16)
        return found


def lightness(image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """CIE L*, 0 to 100, of a grey image stretched to the full range of sRGB values; 0 if it is constant."""
    grey = image.astype(np.float32)
    grey = grey - grey.min()
    if highest := float(grey.max()):
        grey /= highest
    linear = np.where(grey > 0.04045, ((grey + 0.055) / 1.055) ** 2.4, grey / 12.92)
    root = np.where(linear > 0.008856, np.cbrt(linear), 7.787 * linear + 16 / 116)
    light: npt.NDArray[np.float32] = (116 * root - 16).astype(np.float32)
    return light


@dataclass(frozen=True)
class _SuperpixelJob:
    store: SliceStore
    rows: slice
    slic: Slic
    part: Path


@with_threads
def prepare_superpixels(options: SuperpixelOptions) -> SliceStore:
    """Add superpixels to the store `options.data`; scans finished before an interruption are kept.

    Raises:
        StoreError: there is no store, or it has superpixels with other parameters.
        ScanError: scans failed; the message names them.
        RunError: another process is using the store.
    """
    SliceStore.open(options.data)  # before the folder beside it is created
    with lock_store(options.data):
        return _add_superpixels(SliceStore.open(options.data), options)


def _add_superpixels(store: SliceStore, options: SuperpixelOptions) -> SliceStore:
    slic = Slic.for_size(store.size, options.segments, options.compactness)
    wanted = SuperpixelParameters(segments=slic.segments, compactness=slic.compactness)
    parts = store.folder / f"superpixels-{slic.segments}-{slic.compactness:g}.partial"
    if (there := store.superpixel_parameters) is not None:
        if there != wanted:
            raise StoreError(
                f"{store.folder} has superpixels of other parameters ({there}, not {wanted})",
                f"delete {store.list_files(SUPERPIXELS)[0].path} to compute them again",
            )
        say(f"{store.folder} has these superpixels already")
        shutil.rmtree(parts, ignore_errors=True)  # remain if a process was killed while removing them
        return store
    with disk_errors(parts):
        parts.mkdir(exist_ok=True)
    jobs = {
        str(case): _SuperpixelJob(store, slice(of.index[0], of.index[-1] + 1), slic, parts / f"{case}.map")
        for case, of in store.slices.groupby("case", sort=False)
    }
    todo = {case: job for case, job in jobs.items() if not _is_complete(job)}
    _, failures = map_cases(_segment_scan, todo, "superpixels", options.workers)
    if failures:
        raise ScanError(
            f"superpixels of {len(failures)} of {len(jobs)} scans failed:\n{format_failures(failures)}",
            "run the same command again; the other scans are kept",
        )
    digests = {case: hash_slices(_map_part(job), "superpixels") for case, job in jobs.items()}
    rows = ((job.rows.stop - job.rows.start, job.part) for job in jobs.values())
    write_shards(store.list_files(SUPERPIXELS), MAP_TYPE, store.size, rows)
    # Written last: superpixels that store.json does not list do not count.
    replace(store.record, superpixels=wanted, superpixel_digests=digests).write(store.folder / "store.json")
    shutil.rmtree(parts, ignore_errors=True)
    say(f"{store.folder}: superpixels of {len(store.slices)} slices, {wanted}")
    return SliceStore.open(store.folder)


def _is_complete(job: _SuperpixelJob) -> bool:
    """Whether the part of a scan is complete; it is written atomically, so that a wrong size means a disk error."""
    pixels = job.store.images[job.rows].size
    return job.part.is_file() and job.part.stat().st_size == pixels * MAP_TYPE.itemsize


def _map_part(job: _SuperpixelJob) -> npt.NDArray[np.uint16]:
    return np.memmap(job.part, MAP_TYPE, "r", shape=job.store.images[job.rows].shape)


def _segment_scan(job: _SuperpixelJob) -> int:
    images = job.store.images[job.rows]
    with atomic_write(job.part) as file:
        for image in images:
            file.write(job.slic(image).tobytes())
    return len(images)
