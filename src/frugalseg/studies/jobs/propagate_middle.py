"""Propagating the middle slice of each mask through its scan.

Source: PolyCL, section 3.3.2, whose reference slice is the middle one of the slices that show the organ. With
references of the test scans this is interactive segmentation with one annotated slice per organ and scan; with
predicted masks nothing is annotated.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.dataset.targets import parse_targets, to_classes, to_values
from frugalseg.engine.progress import say
from frugalseg.errors import ScanError
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Array, axial_slices, canonical
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.masks.inputs import pair_scans_and_masks
from frugalseg.options import PropagateOptions
from frugalseg.propagation.propagate import propagate
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord


@dataclass(frozen=True)
class PropagateMiddleSlice:
    """Propagate the middle slice of each mask through its scan.

    Attributes:
        masks: the folder of masks.
        drawn: whether the masks are manual annotation; their middle slices are then not scored.
        propagate: options of the propagation; the folder `annotations` is written here, from the masks.
    """

    masks: Path
    drawn: bool
    propagate: PropagateOptions


NONE_LEFT = "every slice is annotated, so none is left to propagate to and to score"


def propagate_middle_slices(job: PropagateMiddleSlice) -> None:
    """Make a mask of every scan of the job from the middle slice of each organ; an empty mask stays empty.

    A scan of which every slice is the middle one of an organ, such as a scan of one slice, keeps its mask if that was
    predicted. If it was drawn, no slice is left to score: the scan is left out, with a warning, and predictions.json
    lists it as failed.

    Raises:
        ScanError: every scan would be left out.
        FrugalsegError: see `propagate`.
    """
    options, targets = job.propagate, parse_targets(job.propagate.target)
    images, masks = pair_scans_and_masks(options.images, job.masks, options.case, options.series)
    if options.annotations.is_dir():
        shutil.rmtree(options.annotations)
    options.annotations.mkdir(parents=True)
    to_propagate, unchanged, left_out = [], {}, []
    for case, path in masks.items():
        mask = read_labels_on(path, read_volume(images[case]), case)
        upright, way = canonical(mask)
        classes = to_classes(axial_slices(upright.array), targets)
        kept = np.zeros_like(classes)
        middle = organ_middle_slices(classes)
        kept[middle] = classes[middle]
        annotation = mask.with_array(way.undo(axial_slices(to_values(kept, targets))))
        if not middle:
            say(f"{case}: the mask is empty, so nothing is propagated")
            unchanged[case] = annotation
        elif len(middle) < len(classes):
            to_propagate.append(case)
            write_mask(annotation, mask_path(options.annotations, case, images[case]))
        elif job.drawn:
            left_out.append(case)
        else:
            say(f"{case}: every slice is the middle one of an organ, so nothing is propagated")
            unchanged[case] = annotation
    if len(left_out) == len(masks):
        raise ScanError(f"{', '.join(left_out)}: {NONE_LEFT}", "test this method on scans of more slices")
    if to_propagate:
        propagate(replace(options, case=to_propagate))
        if not job.drawn:
            # These slices are predictions: all slices are scored, as those of the original masks are.
            _change_record(options.out, annotated={})
    for case, mask in unchanged.items():
        write_mask(mask, mask_path(options.out, case, images[case]))
    if left_out:
        warnings.warn(
            f"{', '.join(left_out)}: {NONE_LEFT}; left out. To compare this method, test on scans of more slices",
            stacklevel=2,
        )
        _change_record(options.out, failed=dict.fromkeys(left_out, NONE_LEFT))


def _change_record(folder: Path, **entries: Any) -> None:
    """Replace entries of predictions.json, which does not exist where nothing was propagated."""
    record = PredictionRecord.read_beside(folder) or PredictionRecord(roles=None)
    replace(record, **entries).write(folder / PREDICTIONS_FILE)


def organ_middle_slices(classes: Array) -> list[int]:
    """The middle slice of every organ: S[⌊|S|/2⌋] of the slices S that show it.

    Args:
        classes: (Z, H, W), 0 for background.

    Returns:
        Slice indices in order, without duplicates.
    """
    organs = [number for number in np.unique(classes) if number]
    shown = (np.flatnonzero((classes == number).any(axis=(1, 2))) for number in organs)
    return sorted({int(slices[len(slices) // 2]) for slices in shown})
