"""One scan's part of a store: made from its files, written, and recognised as finished in the next run.

A part is a file for each array and an entry, which is written last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from msgspec import UNSET

from frugalseg.dataset.annotated import clear_unlabelled
from frugalseg.dataset.digest import hash_slices
from frugalseg.dataset.modality import ExpectedModality
from frugalseg.dataset.small_organs import median_areas_mm2
from frugalseg.dataset.stamp import Stamps, stamp_scan
from frugalseg.dataset.store import ARRAYS
from frugalseg.dataset.targets import Targets, to_classes
from frugalseg.engine.files import atomic_write, sha256
from frugalseg.engine.pool import CaseWork
from frugalseg.errors import StoreError
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.modality import guess_modality
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.square import Square
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.records.store import Digests, ScanEntry


@dataclass(frozen=True)
class ScanJob:
    """The input of `prepare_scan`."""

    case: str
    patient: str
    image: Path
    labels: Path | None
    intensity: IntensityScale
    expected: ExpectedModality
    targets: Targets
    size: int
    parts: Path
    labelled: tuple[int, ...] | None = None
    """The slices whose mask is a label; None for all."""

    def part_file(self, array: str) -> Path:
        """The file with its slices for images.npy or labels.npy."""
        return self.parts / f"{self.case}.{array}"


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """The part of a scan.

    Attributes:
        entry: its entry for store.json.
        arrays: for each of `ARRAYS`, its slices (Z, S, S).
    """

    entry: ScanEntry
    arrays: Mapping[str, npt.NDArray[Any]]

    def write(self, job: ScanJob) -> ScanEntry:
        """Write the part, its entry last; returns the entry."""
        for name, array in self.arrays.items():
            with atomic_write(job.part_file(name)) as file:
                file.write(array.data)
        self.entry.write(job.parts / f"{job.case}.json")
        return self.entry


@dataclass(frozen=True)
class PrepareWork(CaseWork[ScanJob, ScanJob, PreparedScan]):
    """The preparation of one scan."""

    def read(self, case: str, job: ScanJob) -> ScanJob:
        """See `CaseWork.read`."""
        return job

    def make(self, case: str, source: ScanJob) -> PreparedScan:
        """See `prepare_scan`."""
        return prepare_scan(source)


def prepare_scan(job: ScanJob) -> PreparedScan:
    """Read, check, scale and resize one scan."""
    stamp = stamp_scan(job.image, job.labels)
    image = read_volume(job.image)
    labels = None if job.labels is None else read_labels_on(job.labels, image, job.case)
    job.expected.check(job.case, job.image, image)
    upright, reorientation = canonical(image)
    limits = job.intensity.fit(upright.array, upright.padding)
    square = Square.fit(axial_slices(upright.array).shape[1:], (upright.spacing[1], upright.spacing[0]), job.size)
    stack = axial_slices(upright.array)
    classes = np.zeros(stack.shape, np.uint8)
    if labels is not None:
        classes = to_classes(axial_slices(reorientation.apply(labels).array), job.targets)
        clear_unlabelled(classes, job.labelled, job.case)
    arrays = {name: np.empty((len(stack), job.size, job.size), dtype) for name, dtype in ARRAYS.items()}
    for chunk in _iterate_chunks(len(stack)):
        scaled = torch.from_numpy(job.intensity.apply(stack[chunk], limits, upright.padding))
        arrays["images"][chunk] = square.resize_images(scaled).to(torch.float16).numpy()
        planes = torch.from_numpy(np.ascontiguousarray(classes[chunk]))
        arrays["labels"][chunk] = square.resize_labels(planes).numpy()
    voxels = _count_voxels(classes, len(job.targets))
    entry = ScanEntry(
        case=job.case,
        patient=job.patient,
        slices=len(stack),
        stamp=stamp,
        image_sha256=sha256(job.image),
        labels_sha256=None if job.labels is None else sha256(job.labels),
        fingerprint=fingerprint(upright),
        grid=image.describe_grid(),
        limits=limits,
        looks_like=guess_modality(image.array).kind,
        z_mm=upright.spacing[2],
        row_mm=square.pixel_spacing[0],
        column_mm=square.pixel_spacing[1],
        values=() if labels is None else tuple(int(v) for v in np.unique(labels.array)),
        present=tuple(tuple(map(bool, counts)) for counts in voxels),
        areas_mm2=median_areas_mm2(voxels, upright.spacing[0] * upright.spacing[1]),
        own_size=square.own_size,
        labelled_slices=UNSET if job.labelled is None else job.labelled,
        digests=Digests(**{name: hash_slices(array, name) for name, array in arrays.items()}),
    )
    return PreparedScan(entry, arrays)


def _count_voxels(classes: npt.NDArray[np.uint8], organs: int) -> npt.NDArray[np.int64]:
    """(Z, H, W) classes → (Z, C) voxels of each organ in each slice."""
    counts = [[np.count_nonzero(plane == number) for number in range(1, organs + 1)] for plane in classes]
    return np.array(counts, np.int64).reshape(len(classes), organs)


def _iterate_chunks(slices: int, length: int = 16) -> Iterator[slice]:
    """The slices of a scan in chunks, so that no float copy of a whole scan is needed."""
    for z in range(0, slices, length):
        yield slice(z, min(z + length, slices))


def read_finished_part(job: ScanJob, stamps: Stamps) -> ScanEntry | None:
    """The entry of a scan whose part is complete and was made from the files with these stamps, otherwise None."""
    try:
        entry = ScanEntry.read(job.parts / f"{job.case}.json")
    except StoreError:  # missing or damaged
        return None
    whole = entry.case == job.case and all(_is_complete(job, name, entry) for name in ARRAYS)
    return entry if whole and is_made_from(entry, stamps, job.labelled) else None


def _is_complete(job: ScanJob, array: str, entry: ScanEntry) -> bool:
    path = job.part_file(array)
    bytes_of_all = entry.slices * job.size**2 * ARRAYS[array].itemsize
    if entry.digests is UNSET or not path.is_file() or path.stat().st_size != bytes_of_all:
        return False
    known: str = getattr(entry.digests, array)
    return _hash_part(job, array, entry.slices) == known


def _hash_part(job: ScanJob, array: str, slices: int) -> str:
    return hash_slices(np.memmap(job.part_file(array), ARRAYS[array], "r", shape=(slices, job.size, job.size)), array)


def is_made_from(entry: ScanEntry, stamps: Stamps, labelled: tuple[int, ...] | None) -> bool:
    """Whether an entry was made from the files with these stamps, and these slices of the mask (None: all).

    Copied or moved files are compared by their hash.
    """
    if entry.labelled_slices != (UNSET if labelled is None else labelled):
        return False
    if entry.stamp == stamps:
        return True
    if [stamp.bytes for stamp in entry.stamp] != [stamp.bytes for stamp in stamps]:
        return False
    hashes = [sha256(Path(stamp.path)) if stamp.path else None for stamp in stamps]
    return hashes == [entry.image_sha256, entry.labels_sha256]
