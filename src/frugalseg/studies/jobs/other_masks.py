"""Masks of the test scans made by another program: checked before anything is trained, then imported as predictions.

Only the files in their folder are known; the program's training annotation is stated by the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugalseg.dataset.stamp import stamp_scan
from frugalseg.dataset.targets import Targets, format_values, parse_targets, to_classes, to_values
from frugalseg.engine.files import sha256
from frugalseg.engine.parallel import format_failures, map_cases
from frugalseg.errors import OptionError, PairingError, ScanError
from frugalseg.imaging.find import find_dataset, find_masks
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.records.scan_index import IndexedMask, MaskIndex
from frugalseg.text import name_some, pluralize

MOST_NAMED = 20
"""Scans that a message names."""


@dataclass(frozen=True)
class MasksToCheck:
    """Masks of a test set made by another program, to be checked.

    Attributes:
        images, masks: folders.
        series: rules that choose one DICOM series of each sub-folder of images.
        case: the test scans.
        target: organs and their label values in these masks.
        stated: whether the plan states these values; if not, they are those of the references.
        out: the JSON index of the masks.
    """

    images: Path
    masks: Path
    series: tuple[str, ...]
    case: tuple[str, ...]
    target: tuple[str, ...]
    stated: bool
    out: Path


@dataclass(frozen=True)
class MasksToImport:
    """Masks of another program to be imported into a study.

    Attributes:
        images, masks: folders.
        series: rules that choose one DICOM series of each sub-folder of images.
        case: the scans.
        written: organs and their label values in these masks.
        target: organs and the label values to write.
        out: output folder.
    """

    images: Path
    masks: Path
    series: tuple[str, ...]
    case: tuple[str, ...]
    written: tuple[str, ...]
    target: tuple[str, ...]
    out: Path


def check_masks(job: MasksToCheck, workers: int) -> None:
    """Check the masks and write `job.out`, a JSON file with their case ids, hashes and label values.

    Masks whose files did not change since the last check are not read again.

    Raises:
        PairingError: scans without a mask, or a mask with another grid than its scan.
        ScanError: masks that cannot be read.
        OptionError: label values that belong to no target, or an organ that no mask holds.
    """
    images, masks = find_dataset(job.images, None, job.series)[0], find_masks(job.masks)
    if missing := [case for case in job.case if case not in masks]:
        raise PairingError(
            f"{job.masks} holds no mask of {len(missing)} of the {pluralize(len(job.case), 'test scan')}: "
            f"{name_some(missing, MOST_NAMED)}",
            "add them, named by the scans' case ids; if no organ was found, add a mask of zeros",
        )
    before = {mask.case: mask for mask in MaskIndex.read(job.out).masks} if job.out.is_file() else {}
    pairs = {case: (case, images[case], masks[case]) for case in job.case}
    known = {c: before[c] for c, pair in pairs.items() if c in before and before[c].stamp == stamp_scan(*pair[1:])}
    made, failures = map_cases(
        _index_mask, {c: pair for c, pair in pairs.items() if c not in known}, "looking", workers
    )
    if failures:
        raise ScanError(
            f"{len(failures)} of {pluralize(len(pairs), 'mask')} cannot be used:\n{format_failures(failures)}",
            "repair or replace them",
        )
    found = {case: (known | made)[case] for case in job.case}
    _check_values(parse_targets(job.target), {c: set(mask.values) for c, mask in found.items()}, job)
    MaskIndex(masks=tuple(found.values())).write(job.out)


def _index_mask(pair: tuple[str, Path, Path]) -> IndexedMask:
    case, image, path = pair
    stamp = stamp_scan(image, path)
    mask = read_labels_on(path, read_volume(image), case)
    values = tuple(int(value) for value in np.unique(mask.array))
    return IndexedMask(case=case, sha256=sha256(path), values=values, stamp=stamp)


def _check_values(targets: Targets, values: Mapping[str, set[int]], job: MasksToCheck) -> None:
    """Refuse masks whose label values do not match the targets: they would score as if nothing had been found.

    An organ that no mask holds may have been missed in every scan; but if there are values that no target names, the
    targets are most likely wrong.
    """
    wanted = {value for of_organ in targets.values() for value in of_organ}
    found = set().union(*values.values()) - {0}
    unknown = found - wanted
    if unknown and not job.stated:
        cases = [case for case, own in values.items() if own & unknown]
        raise OptionError(
            f"the masks in {job.masks} hold the label value {format_values(unknown)} ({name_some(cases, MOST_NAMED)}), "
            f"none of the test set's target ({', '.join(job.target)})",
            "state the masks' label values: target: [ORGAN=VALUE]; values that it does not name are background",
        )
    for organ, own in targets.items():
        if unknown and not found & set(own):
            raise OptionError(
                f"no mask in {job.masks} holds {organ} ({format_values(own)}); they hold {format_values(found)}",
                "correct target:",
            )


def import_masks(job: MasksToImport) -> None:
    """Write the masks of another program into the study, with the label values of the references.

    Raises:
        PairingError: a mask is missing, or has another grid than its scan.
        ScanError: a mask cannot be read.
    """
    images, masks = find_dataset(job.images, None, job.series)[0], find_masks(job.masks)
    written, wanted = parse_targets(job.written), parse_targets(job.target)
    written = {organ: written[organ] for organ in wanted}  # classes are numbered in this order
    for case in job.case:
        if case not in masks:
            raise PairingError(f"{job.masks} no longer holds a mask of {case}", "run the same command again")
        scan = read_volume(images[case])
        mask = read_labels_on(masks[case], scan, case)
        values = to_values(to_classes(mask.array, written), wanted)
        write_mask(scan.with_array(values), mask_path(job.out, case, images[case]))
