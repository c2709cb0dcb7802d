"""What `frugalseg prepare` tells about a store: its content, its DICOM series, values that look odd."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from frugalseg.dataset.size_proposal import propose_size
from frugalseg.dataset.small_organs import find_small_organs
from frugalseg.dataset.store import SliceStore, presence_column
from frugalseg.engine.files import atomic_write
from frugalseg.engine.host_memory import free_host_memory
from frugalseg.engine.progress import say
from frugalseg.imaging.modality import MODALITY_NAMES, ModalityKind
from frugalseg.imaging.series import HEAD, FoundSeries, choose_series, to_table
from frugalseg.options import PrepareOptions
from frugalseg.records.split import PARTS, Split
from frugalseg.records.store import ScanEntry
from frugalseg.text import name_some, pluralize

SERIES_FILE = "series.csv"
"""In a store: the DICOM series that were found, and which of them are used."""


def tabulate_series(
    options: PrepareOptions, listed: Sequence[FoundSeries], images: Mapping[str, Path]
) -> list[tuple[str, ...]]:
    """The table of DICOM series, in which those of `images` are used."""
    judged = choose_series(listed, options.series) if options.series else listed
    return to_table(judged, options.images, {path: case for case, path in images.items()})


def write_series(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Write the rows below their headings as CSV; raises `DiskError`."""
    with atomic_write(path, "w") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])


def warn_of_odd_values(scans: Sequence[ScanEntry], kind: ModalityKind) -> None:
    """Warn once if scans that are scaled as CT do not look like CT, or vice versa."""
    odd = [scan.case for scan in scans if scan.looks_like and scan.looks_like != kind]
    if odd:
        words = "do not look like HU" if kind == "ct" else "look like HU"
        other = "mr" if kind == "ct" else "ct"
        warnings.warn(
            f"the values of {len(odd)} of {pluralize(len(scans), 'scan')} {words} ({name_some(odd)}); they are scaled "
            f"as {MODALITY_NAMES[kind]} anyway. If they are {MODALITY_NAMES[other]}, give --modality {other}",
            stacklevel=3,
        )


def print_summary(store: SliceStore) -> None:
    """Print what a finished store holds; warns of small organs."""
    scans = store.slices.groupby("case")
    labelled = int(scans["labelled"].any().sum())
    split = store.split()
    say(
        f"{store.folder}: {scans.ngroups} scans, {len(store.slices)} slices of {store.size}×{store.size}; "
        f"{labelled} scans labelled; patients: {len(split.train)} train, {len(split.validation)} validation, "
        f"{len(split.test)} test"
    )
    for name in store.targets:
        holding = store.slices[store.slices["labelled"]].groupby("case")[presence_column(name)].any()
        say(f"  {name}: in {int(holding.sum())} of {labelled} labelled scans")
    small_organs = find_small_organs(store.record)
    for small in small_organs:
        warnings.warn(small.describe(store.size), stacklevel=3)
    if not small_organs and (proposal := propose_size(store.record, free_host_memory())):
        say(f"  {proposal.describe()}")
    if store.targets:
        _print_split(store, split)


def _print_split(store: SliceStore, split: Split) -> None:
    """Print how many labelled scans each part of the split has, and whether there are any for validation."""
    labelled = store.slices[store.slices["labelled"]].groupby("case")["patient"].first()
    count = labelled.map(split.part_by_patient()).value_counts()
    training, validation, test = (int(count.get(part, 0)) for part in PARTS)
    left_out = len(labelled) - training - validation - test
    say(
        f"  labelled scans: {training} for training, {validation} for validation, {test} for test"
        f"{f', {left_out} unused, since --split does not list them' if left_out else ''}"
    )
    if not validation:
        say(
            "  none for validation: fine-tuning then keeps the model of the last step; assign some with --fractions "
            "(needs at least three labelled patients) or --split"
        )
