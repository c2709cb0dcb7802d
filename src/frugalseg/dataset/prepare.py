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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET

from frugalseg._version import __version__
from frugalseg.dataset.annotated import LabelledSlices, find_labelled_slices
from frugalseg.dataset.modality import (
    ExpectedModality,
    ModalityError,
    fill_intensity,
    resolve_intensity,
    to_intensity_scale,
)
from frugalseg.dataset.prepare_scan import PrepareWork, ScanJob, is_made_from, read_finished_part
from frugalseg.dataset.prepare_summary import (
    SERIES_FILE,
    print_summary,
    tabulate_series,
    warn_of_odd_values,
    write_series,
)
from frugalseg.dataset.shards import list_files, plan_shards, write_shards
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
from frugalseg.dataset.targets import Targets, check_values_present, parse_targets
from frugalseg.engine.files import atomic_write, check_out, sha256
from frugalseg.engine.parallel import format_failures
from frugalseg.engine.pool import InThreads
from frugalseg.engine.progress import say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import FrugalsegError, OptionError, ScanError, StoreError, disk_errors
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.series import FoundSeries, format_table, list_series
from frugalseg.options import PrepareOptions, SuperpixelOptions
from frugalseg.options.common import stated_modality
from frugalseg.records.record import to_plain
from frugalseg.records.split import Split
from frugalseg.records.store import ScanEntry, SplitParameters, StoreParameters, StoreRecord
from frugalseg.text import name_some


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
        if (not is_made_from(there[case], stamp, labelled.get(case)) if case in there else not skip_broken)
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
