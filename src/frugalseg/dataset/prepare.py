"""`frugalseg prepare`: a folder of scans becomes a slice store.

Each scan is read, scaled and made square separately, into a folder of parts in `<out>.partial`. When all parts are
complete, they are joined in a folder beside them, which is then renamed to `<out>`. A killed run therefore leaves
nothing that looks finished, loses at most the scans in progress, and can be continued from any point. One process at a
time works on a store (`dataset.store_lock`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from msgspec import UNSET

from frugalseg._version import __version__
from frugalseg.dataset.annotated import LabelledSlices, clear_unlabelled, find_labelled_slices
from frugalseg.dataset.digest import hash_slices
from frugalseg.dataset.modality import (
    ExpectedModality,
    ModalityError,
    fill_intensity,
    resolve_intensity,
    to_intensity_scale,
)
from frugalseg.dataset.prepare_summary import (
    SERIES_FILE,
    print_summary,
    tabulate_series,
    warn_of_odd_values,
    write_series,
)
from frugalseg.dataset.shards import list_files, plan_shards, write_shards
from frugalseg.dataset.small_organs import median_areas_mm2
from frugalseg.dataset.splits import draw_split, parse_patient, read_split
from frugalseg.dataset.stamp import Stamps, stamp_scan
from frugalseg.dataset.store import (
    ARRAYS,
    COLUMNS,
    KnownScan,
    SliceStore,
    build_index,
    group_identical_scans,
)
from frugalseg.dataset.store_lock import is_occupied, lock_store
from frugalseg.dataset.superpixels import prepare_superpixels
from frugalseg.dataset.targets import Targets, check_values_present, parse_targets, to_classes
from frugalseg.engine.files import atomic_write, check_out, sha256
from frugalseg.engine.parallel import format_failures
from frugalseg.engine.pool import CaseWork, InThreads
from frugalseg.engine.progress import say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import FrugalsegError, OptionError, ScanError, StoreError, disk_errors
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.modality import guess_modality
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.series import FoundSeries, format_table, list_series
from frugalseg.imaging.square import Square
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import PrepareOptions, SuperpixelOptions
from frugalseg.options.common import stated_modality
from frugalseg.records.record import to_plain
from frugalseg.records.split import Split
from frugalseg.records.store import Digests, ScanEntry, SplitParameters, StoreParameters, StoreRecord
from frugalseg.text import name_some


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


@with_threads
def prepare(options: PrepareOptions) -> SliceStore:
    """Make the slice store `options.out`, or return it if it already exists with the same parameters.

    Superpixels (`options.superpixels`) are computed last, and also added to an existing store.

    Raises:
        StoreError: `out` holds something else, or a store made with other parameters or from other scans.
        ScanError: scans cannot be read (all are named; the others are kept for the next run).
        PairingError: labels without images, on another grid, or identical to the images.
        OptionError: a `--target` value that occurs in no mask, or a pattern that finds no patient.
        SplitError: the split has no training patients, or leaks.
    """
    store = _prepare_slices(options)
    if not options.superpixels:
        return store
    return prepare_superpixels(
        SuperpixelOptions(
            data=store.folder, segments=options.segments, compactness=options.compactness, workers=options.workers
        )
    )


def _prepare_slices(options: PrepareOptions) -> SliceStore:
    check_out(options.out)
    listed = list_series(options.images)
    images, labels = find_dataset(options.images, options.labels, options.series, listed)
    if any(one.reason for one in listed) or options.series:
        say(format_table(tabulate_series(options, listed, images)))
    targets = parse_targets(options.target)
    if targets and not labels:
        raise OptionError("--target was given without --labels", "add --labels FOLDER, or remove --target")
    if not targets:
        labels = {}
    labels, labelled = find_labelled_slices(options.labels, labels)
    resolved, expected = _resolve_modality(options, images)
    parameters = _store_parameters(resolved, targets)
    sources = {case: stamp_scan(image, labels.get(case)) for case, image in images.items()}
    with lock_store(options.out) as partial:
        if is_occupied(options.out):  # checked under the lock: another process may have finished it
            return _open_existing(options.out, parameters, sources, labelled, options.skip_broken)
        _make_store(options, expected, images, labels, labelled, targets, parameters, sources, partial, listed)
    store = SliceStore.open(options.out)
    print_summary(store)
    return store


def _make_store(
    options: PrepareOptions,
    expected: ExpectedModality,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    labelled: LabelledSlices,
    targets: Targets,
    parameters: StoreParameters,
    sources: Mapping[str, Stamps],
    partial: Path,
    listed: Sequence[FoundSeries],
) -> None:
    """Prepare all scans without a finished part, join the parts, and rename the result to the store."""
    parts = partial / f"parts-{_hash_parameters(parameters)}"
    with disk_errors(partial):
        parts.mkdir(parents=True, exist_ok=True)
    jobs = {
        case: ScanJob(
            case=case,
            patient=parse_patient(case, options.patient_pattern),
            image=image,
            labels=labels.get(case),
            intensity=parameters.intensity,
            expected=expected,
            targets=targets,
            size=options.size,
            parts=parts,
            labelled=labelled.get(case),
        )
        for case, image in images.items()
    }
    done = {case: entry for case, job in jobs.items() if (entry := read_finished_part(job, sources[case]))}
    if done:
        say(f"{len(done)} of {len(jobs)} scans are already prepared")
    todo = {case: job for case, job in jobs.items() if case not in done}
    with open_pool(options.ray, InThreads(options.workers), options.workers, threads=1, gpu=False) as pool:
        made, failures = pool.run(PrepareWork(), todo, lambda case, part: part.write(jobs[case]), "preparing")
    report_failures(
        failures,
        len(jobs),
        options.skip_broken,
        "repair or remove them and run the same command again (the other scans are kept), "
        "or exclude them with --skip-broken",
    )
    scans = [(done | made)[case] for case in jobs if case not in failures]
    warn_of_odd_values(scans, expected.kind)
    check_values_present(targets, (value for scan in scans for value in scan.values))

    labelled_patients = {scan.patient for scan in scans if scan.labelled}
    split = make_split({scan.patient: scan.patient in labelled_patients for scan in scans}, scans, options)
    whole = partial / "store"
    if whole.exists():  # from a killed run, possibly with other scans
        shutil.rmtree(whole)
    shards = _join_parts(scans, parts, whole, options.size)
    with atomic_write(whole / "slices.parquet") as file:
        build_index(scans, targets).to_parquet(file, index=False)
    split.write(whole / "split.json")
    if listed:
        used = {case: image for case, image in images.items() if case not in failures}
        write_series(whole / SERIES_FILE, tabulate_series(options, listed, used))
    record = StoreRecord(
        version=__version__, parameters=parameters, columns=COLUMNS, scans=tuple(scans), shards=shards or UNSET
    )
    record.write(whole / "store.json")
    out = options.out.resolve()
    with disk_errors(out):
        if out.is_dir():  # empty; not every system lets a folder replace it
            out.rmdir()
        whole.rename(out)


def _resolve_modality(options: PrepareOptions, images: Mapping[str, Path]) -> tuple[PrepareOptions, ExpectedModality]:
    """The options with the modality of an existing store, or as detected from the scans."""
    if stated_modality(options) == "auto" and (options.out / "store.json").is_file():
        kind = SliceStore.open(options.out).intensity.kind
        return fill_intensity(options, kind), ExpectedModality(kind, "the store holds")
    return resolve_intensity(options, images, options.workers)


def _store_parameters(options: PrepareOptions, targets: Targets) -> StoreParameters:
    validation, test = options.fractions
    return StoreParameters(
        size=options.size,
        intensity=to_intensity_scale(options),
        targets=dict(targets),
        patient_pattern=options.patient_pattern,
        split=SplitParameters(fractions=(validation, test), seed=options.seed)
        if options.split is None
        else SplitParameters(file_sha256=sha256(options.split) if options.split.is_file() else None),
    )


def _is_made_from(entry: ScanEntry, stamps: Stamps, labelled: tuple[int, ...] | None) -> bool:
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


def _open_existing(
    out: Path,
    parameters: StoreParameters,
    sources: Mapping[str, Stamps],
    labelled: LabelledSlices,
    skip_broken: bool,
) -> SliceStore:
    """The finished store at `out`; raises `StoreError` unless it was made with these parameters from these scans."""
    store = SliceStore.open(out)
    if differing := store.record.parameters.differences(parameters):
        raise StoreError(
            f"{out} is a store made with other parameters ({'; '.join(differing)})",
            "choose another --out, or delete the old store",
        )
    there = {scan.case: scan for scan in store.record.scans}
    changed = [
        case
        for case, stamp in sources.items()
        if (not _is_made_from(there[case], stamp, labelled.get(case)) if case in there else not skip_broken)
    ]
    changed += [case for case in there if case not in sources]
    if changed:
        raise StoreError(
            f"{out} is a store made from other scans (different: {name_some(changed)})",
            "choose another --out, or delete the old store",
        )
    store.check_arrays()
    say(f"{out} exists already, made with the same parameters from the same scans")
    scans = tuple(replace(scan, stamp=sources[case]) for case, scan in there.items())
    if scans != store.record.scans:  # so that copied or moved files need not be hashed again
        replace(store.record, scans=scans).write(out / "store.json")
        return SliceStore.open(out)
    return store


def _hash_parameters(parameters: StoreParameters) -> str:
    """Short hash of the parameters that affect the part of a scan, so that parts of other parameters are not reused."""
    shaping = {name: value for name, value in to_plain(parameters).items() if name != "split"}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def read_finished_part(job: ScanJob, stamps: Stamps) -> ScanEntry | None:
    """The entry of a scan whose part is complete and was made from the files with these stamps, otherwise None."""
    try:
        entry = ScanEntry.read(job.parts / f"{job.case}.json")
    except StoreError:  # missing or damaged
        return None
    whole = entry.case == job.case and all(_is_complete(job, name, entry) for name in ARRAYS)
    return entry if whole and _is_made_from(entry, stamps, job.labelled) else None


def _is_complete(job: ScanJob, array: str, entry: ScanEntry) -> bool:
    path = job.part_file(array)
    bytes_of_all = entry.slices * job.size**2 * ARRAYS[array].itemsize
    if entry.digests is UNSET or not path.is_file() or path.stat().st_size != bytes_of_all:
        return False
    known: str = getattr(entry.digests, array)
    return _hash_part(job, array, entry.slices) == known


def _hash_part(job: ScanJob, array: str, slices: int) -> str:
    return hash_slices(np.memmap(job.part_file(array), ARRAYS[array], "r", shape=(slices, job.size, job.size)), array)


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


def report_failures(failures: Mapping[str, FrugalsegError], total: int, skip_broken: bool, cure: str) -> None:
    """Warn of the scans that are excluded because they cannot be read.

    Args:
        failures: case id → error.
        total: number of scans, with these.
        skip_broken: whether such scans may be excluded.
        cure: what to do about them otherwise.

    Raises:
        ScanError: they may not be excluded, they are all, or one of them is of another modality than expected.
    """
    if not failures:
        return
    problem = f"{len(failures)} of {total} scans cannot be prepared:\n{format_failures(failures)}"
    odd = any(isinstance(error, ModalityError) for error in failures.values())  # readable, and possibly the right ones
    if odd or not skip_broken or len(failures) == total:
        raise ScanError(problem, cure)
    warnings.warn(f"{problem}\n  they are excluded", stacklevel=2)


def make_split(labelled: Mapping[str, bool], scans: Sequence[KnownScan], options: PrepareOptions) -> Split:
    """The split of a data set: read from the file that the options name, or drawn.

    Args:
        labelled: patient → whether any scan of the patient has a mask.
        scans: of these patients; those with an identical scan are kept in one part.
        options: of the data set.

    Raises:
        SplitError: the file does not fit the patients, or leaks.
    """
    same_image = group_identical_scans(scans)
    for group in same_image:
        warnings.warn(
            f"patients {', '.join(sorted(group))} have an identical scan; they are kept in the same part of the split",
            stacklevel=2,
        )
    if options.split is not None:
        return read_split(options.split, labelled, same_image)
    return draw_split(labelled, same_image, options.fractions, options.seed)


def _join_parts(scans: Sequence[ScanEntry], parts: Path, whole: Path, size: int) -> tuple[int, ...]:
    """Join the parts into the arrays of images and labels; returns the slices of each shard, if they are divided."""
    shards = plan_shards((scan.slices for scan in scans), size**2 * ARRAYS["images"].itemsize)
    for name, dtype in ARRAYS.items():
        files = list_files(whole, name, sum(scan.slices for scan in scans), shards)
        write_shards(files, dtype, size, ((scan.slices, parts / f"{scan.case}.{name}") for scan in scans))
    return shards
