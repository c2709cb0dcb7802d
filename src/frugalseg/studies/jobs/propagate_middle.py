"""Propagating the middle slice of each mask through its scan.

Source: PolyCL, section 3.3.2, whose reference slice is the middle one of the slices that show the organ. With
references of the test scans this is interactive segmentation with one annotated slice per organ and scan; with
predicted masks nothing is annotated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frugalseg.dataset.targets import parse_targets, to_classes, to_values
from frugalseg.engine.progress import say
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


def propagate_middle_slices(job: PropagateMiddleSlice) -> None:
    """Make a mask of every scan of the job from the middle slice of each organ; an empty mask stays empty.

    Raises:
        FrugalsegError: see `propagate`.
    """
    options, targets = job.propagate, parse_targets(job.propagate.target)
    images, masks = pair_scans_and_masks(options.images, job.masks, options.case)
    if options.annotations.is_dir():
        shutil.rmtree(options.annotations)
    options.annotations.mkdir(parents=True)
    empty, shown = {}, []
    for case, path in masks.items():
        mask = read_labels_on(path, read_volume(images[case]), case)
        upright, way = canonical(mask)
        classes = to_classes(axial_slices(upright.array), targets)
        kept = np.zeros_like(classes)
        middle = organ_middle_slices(classes)
        kept[middle] = classes[middle]
        annotation = mask.with_array(way.undo(axial_slices(to_values(kept, targets))))
        if middle:
            shown.append(case)
            write_mask(annotation, mask_path(options.annotations, case, images[case]))
        else:
            empty[case] = annotation
    if shown:
        propagate(replace(options, case=shown))
        if not job.drawn:
            _clear_annotated(options.out)
    for case, mask in empty.items():
        say(f"{case}: the mask is empty, so nothing is propagated")
        write_mask(mask, mask_path(options.out, case, images[case]))


def _clear_annotated(folder: Path) -> None:
    """Remove the list of annotated slices from predictions.json, so that `evaluate` scores all slices.

    The middle slices are predictions here; without them the scores would be over fewer slices than those of the
    original masks.
    """
    path = folder / PREDICTIONS_FILE
    replace(PredictionRecord.read(path), annotated={}).write(path)


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
