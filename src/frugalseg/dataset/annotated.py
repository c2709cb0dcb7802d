"""Masks of which only some slices are labels, as annotations.json in their folder lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.errors import PairingError
from frugalseg.records.annotations import AnnotationsRecord
from frugalseg.text import name_some

LabelledSlices = Mapping[str, tuple[int, ...]]
"""Case id → the slices whose mask is a label, from 0 at the inferior end; cases that are not listed: every slice."""


def find_labelled_slices(
    folder: Path | None, labels: Mapping[str, Path]
) -> tuple[dict[str, Path], dict[str, tuple[int, ...]]]:
    """The masks that hold labels, and which of their slices do.

    Args:
        folder: of the masks; one without annotations.json holds whole masks.
        labels: case id → mask.

    Returns:
        The masks without those of which no slice was outlined or reviewed; and the labelled slices of each, empty
        for a folder without annotations.json.

    Raises:
        PairingError: annotations.json is damaged, or no slice is labelled at all.
    """
    record = AnnotationsRecord.read_beside(folder)
    if record is None:
        return dict(labels), {}
    labelled = {case: slices for case in labels if (slices := record.labelled_slices(case))}
    if labels and not labelled:
        raise PairingError(
            f"{folder} holds no slice that a person outlined or reviewed", "outline some with `frugalseg annotate`"
        )
    return {case: labels[case] for case in labelled}, labelled


def require_whole_masks(folder: Path, cases: Iterable[str]) -> None:
    """Check that masks can be references: that every slice of them is a label.

    Raises:
        PairingError: annotations.json is damaged, or lists slices of these cases that nobody outlined or reviewed.
    """
    if (record := AnnotationsRecord.read_beside(folder)) is None:
        return
    whole = {case for case, scan in record.scans.items() if len(scan.labelled) == scan.slices}
    if unfinished := [case for case in cases if case not in whole]:
        raise PairingError(
            f"{folder} holds unfinished masks of {name_some(unfinished)}: nobody outlined or reviewed some slices",
            "finish them with `frugalseg annotate`, or compare only finished ones",
        )


def clear_unlabelled(classes: npt.NDArray[np.uint8], labelled: tuple[int, ...] | None, case: str) -> None:
    """Set the slices (Z, H, W) that are no labels to 0, in place: they are not known to be background.

    Raises:
        PairingError: a labelled slice is beyond the last one.
    """
    if labelled is None:
        return
    if beyond := [z for z in labelled if z >= len(classes)]:
        raise PairingError(
            f"{case}: annotations.json lists slice {beyond[0]}, but the scan has {len(classes)}",
            "give the scans that were annotated",
        )
    classes[np.setdiff1d(np.arange(len(classes)), labelled)] = 0
