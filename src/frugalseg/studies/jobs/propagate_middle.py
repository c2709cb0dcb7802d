"""Propagating the middle slice of each mask through its scan.

Source: PolyCL, section 3.3.2, whose reference slice is the middle one of those that show the organ. With references of
the test scans this is interactive segmentation, one annotated slice a scan; with predicted masks nothing is annotated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frugalseg.dataset.targets import parse_targets, to_classes, to_values
from frugalseg.engine.progress import say
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels, read_volume
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
        drawn: whether a person drew them. The middle slices are then no result, and are not scored.
        propagate: how; its `annotations` are made here, of these masks.
    """

    masks: Path
    drawn: bool
    propagate: PropagateOptions


def propagate_middle_slices(job: PropagateMiddleSlice) -> None:
    """Make a mask of every scan that `job` names, of each organ's middle slice alone; an empty mask stays empty.

    Raises:
        FrugalsegError: what `propagate` raises.
    """
    options, targets = job.propagate, parse_targets(job.propagate.target)
    images, masks = pair_scans_and_masks(options.images, job.masks, options.case)
    if options.annotations.is_dir():
        shutil.rmtree(options.annotations)
    options.annotations.mkdir(parents=True)
    empty, shown = {}, []
    for case, path in masks.items():
        mask = onto_grid(read_labels(path), read_volume(images[case]), case)
        upright, way = canonical(mask)
        classes = to_classes(axial_slices(upright.array), targets)
        kept = np.zeros_like(classes)
        middle = middle_slices(classes)
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
            _score_all_slices(options.out)
    for case, mask in empty.items():
        say(f"{case}: the mask is empty, so nothing is propagated")
        write_mask(mask, mask_path(options.out, case, images[case]))


def _score_all_slices(folder: Path) -> None:
    """Do not list the propagated slices as annotated ones, which `evaluate` leaves out: they are the model's own, and
    without them the scores would be of other slices than those of the masks they come from."""
    path = folder / PREDICTIONS_FILE
    replace(PredictionRecord.read(path), annotated={}).write(path)


def middle_slices(classes: Array) -> list[int]:
    """Of every organ the middle one of the slices that show it, S[⌊|S|/2⌋].

    Args:
        classes: (Z, H, W), 0 for none.
    """
    organs = [number for number in np.unique(classes) if number]
    shown = (np.flatnonzero((classes == number).any(axis=(1, 2))) for number in organs)
    return sorted({int(slices[len(slices) // 2]) for slices in shown})
