"""Input masks of a command: pairing with scans, checks, and the organs of their label values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.dataset.targets import MAX_TARGETS, MAX_VALUE, Targets
from frugalseg.engine.files import sha256
from frugalseg.engine.progress import say
from frugalseg.errors import PairingError, RunError, ScanError
from frugalseg.imaging.find import check_distinct_files, find_dataset, find_scans
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.volume import Volume
from frugalseg.masks.folder import MaskFolder, select_cases
from frugalseg.masks.output import output_path
from frugalseg.options import OutputType
from frugalseg.records.predictions import InputMask


def pair_scans_and_masks(
    images: Path, masks: Path, cases: Sequence[str], rules: Sequence[str] = ()
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Case id → scan and case id → mask, of the selected scans that have a mask.

    A single scan and a single mask file are paired whatever their names. `rules` are those of `--series`.

    Raises:
        PairingError: masks without a scan, duplicate ids, no pair at all, or the same file as scan and mask.
        ScanError: a path does not exist or holds no scan.
        OptionError: a selected case that is no scan, or has no mask.
    """
    if masks.is_file() and len(single := find_scans(images, rules)) == 1:
        scans, found = single, dict.fromkeys(single, masks)
        check_distinct_files(scans, found)
    else:
        scans, found = find_dataset(images, masks, rules)
    selected = select_cases({case: path for case, path in scans.items() if case in found}, cases, masks)
    if not selected:
        raise PairingError(f"no scan in {images} has a mask in {masks}", "give scan and mask of a case the same name")
    return selected, {case: found[case] for case in selected}


def refuse_overwriting_inputs(
    masks: Mapping[str, Path], images: Mapping[str, Path], out: Path, kind: OutputType
) -> None:
    """Raise `RunError` where a new mask in `out` would overwrite its input mask."""
    paths = {case: output_path(out, case, images[case], kind).resolve() for case in masks}
    if over := [case for case, path in paths.items() if path == masks[case].resolve()]:
        raise RunError(f"the new mask of {over[0]} would overwrite its input mask", "choose another --out")


def read_input_mask(case: str, scan: Volume, path: Path) -> Volume:
    """The mask of a case, on the grid of its scan.

    Raises:
        PairingError: scan and mask have different grids.
        ScanError: it cannot be read, or holds values outside the range of masks.
    """
    mask = read_labels_on(path, scan, case)
    for value in (int(mask.array.min()), int(mask.array.max())):
        if not 0 <= value <= MAX_VALUE:
            problem = f"{path} holds the label value {value}, expected 0…{MAX_VALUE}"
            raise ScanError(problem, "renumber the labels")
    return mask


def describe_input(mask: Path, labelled: tuple[int, ...] | None = None, reference: Path | None = None) -> InputMask:
    """The record of an input mask as it is now; for the arguments see `InputMask`."""
    return InputMask(str(mask.resolve()), sha256(mask), labelled, None if reference is None else sha256(reference))


def invalidate_changed(folder: MaskFolder, inputs: Callable[[str], InputMask]) -> None:
    """In a resumed run, make the masks again whose input has changed.

    Args:
        folder: of the masks.
        inputs: the record of a case's input as it is now.
    """
    for case in list(folder.done):
        given, now = folder.record.given.get(case), inputs(case)
        if given is None or replace(given, mask=now.mask) != now:  # the same file may have been moved
            say(f"{case}: the input mask has changed; the mask is made again")
            folder.redo(case)


def find_organs(mask: Volume, wanted: Targets, known: Targets) -> Targets:
    """The organs to process in a mask: organ → its label values.

    Args:
        mask: label values from 0.
        wanted: of --target; where it is empty, every value in `mask` is an organ.
        known: names of values, as far as they are known.

    Raises:
        ScanError: it holds more organs than are supported.
    """
    if wanted:
        return wanted
    names = {value: name for name, values in known.items() for value in values}
    # np.unique would sort the whole mask, which takes longer.
    values = [int(value) for value in np.flatnonzero(np.bincount(mask.array.ravel(order="K"))) if value]
    if len(values) > MAX_TARGETS:
        raise ScanError(
            f"{mask.source or 'the mask'} holds {len(values)} label values, at most {MAX_TARGETS} are supported",
            "select organs with --target",
        )
    return {_make_unique(names.get(value, f"label {value}"), value, names): (value,) for value in values}


def _make_unique(name: str, value: int, names: Mapping[int, str]) -> str:
    """An organ of several values is processed value by value, so each value needs its own name."""
    return name if list(names.values()).count(name) < 2 else f"{name} ({value})"
