"""Masks that another program made of the test scans: looked at before anything is trained, then taken like predictions.

All that is known of them is what lies in their folder. What the program learned from, the plan states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugalseg.dataset.stamp import stamp_scan
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.files import sha256
from frugalseg.engine.parallel import format_failures, map_cases
from frugalseg.errors import OptionError, PairingError, ScanError
from frugalseg.imaging.find import find_dataset, find_masks
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.records.scan_index import IndexedMask, MaskIndex
from frugalseg.text import pluralize

SHOWN = 20
"""How many scans a message names."""


@dataclass(frozen=True)
class MasksToCheck:
    """Masks that another program made of a test set.

    Attributes:
        images, masks: folders.
        case: the test scans.
        target: organs and the label values they have in these masks.
        stated: whether the plan says so; else they should be those of the references.
        out: the JSON file that lists them.
    """

    images: Path
    masks: Path
    case: tuple[str, ...]
    target: tuple[str, ...]
    stated: bool
    out: Path


@dataclass(frozen=True)
class TakenMasks:
    """Masks of another program that a study takes.

    Attributes:
        images, masks: folders.
        case: the scans.
        written: organs and the label values they have in these masks.
        target: organs and the label values they get.
        out: folder for them.
    """

    images: Path
    masks: Path
    case: tuple[str, ...]
    written: tuple[str, ...]
    target: tuple[str, ...]
    out: Path


def check_masks(job: MasksToCheck, workers: int) -> None:
    """Write `job.out`, a JSON file of the masks: case, hash and label values; those that did not change are not read.

    Raises:
        PairingError: scans without a mask, which are named, or a mask on another grid than its scan.
        ScanError: masks that cannot be read.
        OptionError: label values that are none of the targets', or an organ that no mask holds.
    """
    images, masks = find_dataset(job.images, None)[0], find_masks(job.masks)
    if missing := [case for case in job.case if case not in masks]:
        raise PairingError(
            f"{job.masks} holds no mask of {len(missing)} of the {pluralize(len(job.case), 'test scan')}: "
            f"{_some(missing)}",
            "add them under the scans' case ids; an organ that was not found is a mask of zeros",
        )
    before = {mask.case: mask for mask in MaskIndex.read(job.out).masks} if job.out.is_file() else {}
    pairs = {case: (case, images[case], masks[case]) for case in job.case}
    known = {c: before[c] for c, pair in pairs.items() if c in before and before[c].stamp == stamp_scan(*pair[1:])}
    made, failures = map_cases(_look, {c: pair for c, pair in pairs.items() if c not in known}, "looking", workers)
    if failures:
        raise ScanError(
            f"{len(failures)} of {pluralize(len(pairs), 'mask')} cannot be used:\n{format_failures(failures)}",
            "repair or replace them",
        )
    found = {case: (known | made)[case] for case in job.case}
    _check_values(parse_targets(job.target), {c: set(mask.values) for c, mask in found.items()}, job)
    MaskIndex(masks=tuple(found.values())).write(job.out)


def _look(pair: tuple[str, Path, Path]) -> IndexedMask:
    case, image, path = pair
    stamp = stamp_scan(image, path)
    mask = onto_grid(read_labels(path), read_volume(image), case)
    values = tuple(int(value) for value in np.unique(mask.array))
    return IndexedMask(case=case, sha256=sha256(path), values=values, stamp=stamp)


def _check_values(targets: Targets, values: Mapping[str, set[int]], job: MasksToCheck) -> None:
    """Masks in other label values than the targets' would score as if nothing had been found.

    An organ that no mask holds was missed everywhere, unless there are values that no target names: then it is one of
    these, most likely.
    """
    wanted = {value for of_organ in targets.values() for value in of_organ}
    every = set().union(*values.values()) - {0}
    foreign = every - wanted
    if foreign and not job.stated:
        cases = [case for case, own in values.items() if own & foreign]
        raise OptionError(
            f"the masks in {job.masks} hold the label value {_some(sorted(foreign))} ({_some(cases)}), none of "
            f"the test set's target ({', '.join(job.target)})",
            "say what the masks' label values mean: target: [ORGAN=VALUE]; what it leaves out is background",
        )
    for organ, own in targets.items():
        if foreign and not every & set(own):
            raise OptionError(
                f"no mask in {job.masks} holds {organ} ({_some(own)}); they hold {_some(sorted(every))}",
                "correct target:",
            )


def take_masks(job: TakenMasks) -> None:
    """Write the masks of another program into the study, in the label values of the references.

    Raises:
        PairingError, ScanError: a mask is not there, not readable, or on another grid than its scan.
    """
    images, masks = find_dataset(job.images, None)[0], find_masks(job.masks)
    written, wanted = parse_targets(job.written), parse_targets(job.target)
    written = {organ: written[organ] for organ in wanted}  # classes are numbered in this order
    for case in job.case:
        if case not in masks:
            raise PairingError(f"{job.masks} no longer holds a mask of {case}", "run the same command again")
        scan = read_volume(images[case])
        mask = onto_grid(read_labels(masks[case]), scan, case)
        values = to_values(to_classes(mask.array, written), wanted)
        write_mask(scan.with_array(values), mask_path(job.out, case, images[case]))


def _some(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:SHOWN]) + (f", … ({len(listed)} in all)" if len(listed) > SHOWN else "")
