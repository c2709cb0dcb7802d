"""The propagation of annotated slices through one scan, of which every slice is stored as soon as it is reached."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.dataset.targets import Targets, to_classes
from frugalseg.errors import RunError, ScanError, disk_errors
from frugalseg.imaging.volume import Volume
from frugalseg.masks.components import Bools
from frugalseg.masks.inputs import find_organs
from frugalseg.options import PropagateOptions, parse_slice_numbers
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.propagation.engines import Engine, remaining_slices
from frugalseg.propagation.passes import (
    Beliefs,
    Pass,
    SliceState,
    are_nonempty,
    find_annotated_slices,
    find_neighbours,
    fuse_states,
    plan_passes,
)
from frugalseg.propagation.review import ReviewRow, review_slice
from frugalseg.records.signatures import SlicesSignature
from frugalseg.refinement.boxes import Classes

NO_BELIEFS: Beliefs = np.empty((0, 0, 0), np.float32)
"""Replaces beliefs no longer needed: those of a whole scan fill the memory, and a view would keep them alive."""


@dataclass(frozen=True, eq=False)
class PropagationTask:
    """The propagation of one scan.

    Attributes:
        scan: its slices.
        organs: the K objects.
        objects: annotated slice → (K, H, W) masks; empty for organs that are not in the slice.
        first, last: slices to process.
    """

    scan: ScanSlices
    organs: Targets
    objects: Mapping[int, Bools]
    first: int
    last: int

    @classmethod
    def of(
        cls,
        case: str,
        scan: ScanSlices,
        given: Volume,
        labelled: tuple[int, ...] | None,
        options: PropagateOptions,
        wanted: Targets,
        known: Targets,
    ) -> PropagationTask:
        """The task that an annotation sets.

        Args:
            case: for messages.
            scan: its slices.
            given: the annotation, on the scan's grid; only its annotated slices are used.
            labelled: the slices of it that a person outlined or accepted; None where that is not known.
            options: annotated slices, and range of slices.
            wanted: of --target.
            known: names of label values, as far as they are known.

        Raises:
            ScanError: no labelled slice shows an organ; see also `passes.find_annotated_slices` and
                `inputs.find_organs`.
        """
        values = scan.stack(given)
        named, span = (
            parse_slice_numbers("slices", options.slices),
            parse_slice_numbers("slice-range", options.slice_range),
        )
        foreground = values > 0 if not wanted else to_classes(values, wanted) > 0
        annotated = find_annotated_slices(foreground, named or _select_shown(foreground, labelled, case), span, case)
        annotation = given.with_array(scan.unstack(_keep_slices(values, annotated)))
        organs = find_organs(annotation, wanted, known)
        classes = {z: to_classes(values[z], organs) for z in annotated}
        count = np.arange(1, len(organs) + 1)[:, None, None]
        first, last = span or (0, len(scan) - 1)
        return cls(scan, organs, {z: plane == count for z, plane in classes.items()}, first, last)

    @property
    def annotated(self) -> list[int]:
        """The annotated slices, in order."""
        return sorted(self.objects)

    @cached_property
    def passes(self) -> list[Pass]:
        """One pass in each direction from every annotated slice."""
        return plan_passes(self.annotated, self.first, self.last)

    def source_slices(self, z: int) -> list[int]:
        """The annotated slices that `z` is propagated from; only `z`, if it is annotated."""
        return [z] if z in self.objects else find_neighbours(z, self.annotated)


def run_passes(engine: Engine, task: PropagationTask, folder: Path, advance: Callable[[int], None]) -> None:
    """Run all passes of a task and store every slice in `folder`; slices already stored are not computed again."""
    propagate = engine.make_propagator(task.scan)
    for pass_ in task.passes:
        reached = 0
        while reached < len(pass_.order) and _state_path(folder, pass_, pass_.order[reached]).is_file():
            reached += 1
        advance(reached)
        state = SliceState.load(_state_path(folder, pass_, pass_.order[reached - 1])) if reached else None
        if remaining_slices(pass_, state):
            for found in propagate(pass_, task.objects[pass_.start], state):
                found.save(_state_path(folder, pass_, found.z))
                advance(1)


def assemble_mask(task: PropagationTask, folder: Path, review_below: float) -> tuple[Classes, list[ReviewRow]]:
    """The mask (Z, H, W), with annotated slices unchanged, and the review rows of its slices."""
    classes = np.zeros((len(task.scan), *task.scan.shape), dtype=np.uint8)
    states = {}
    for z in range(task.first, task.last + 1):
        state = _load_state(task, folder, z)
        for number, mask in enumerate(state.masks(), start=1):
            classes[z][mask] = number
        states[z] = replace(state, beliefs=NO_BELIEFS)
    rows: list[ReviewRow] = []
    numbered = np.arange(1, len(task.organs) + 1)
    mm = (task.scan.thickness_mm, *task.scan.pixel_mm)
    for z, state in states.items():
        sources = task.source_slices(z)
        before, denied = np.zeros(len(numbered), bool), np.zeros(len(numbered), bool)
        for source in () if z in task.objects else sources:
            previous, following = (z - 1, z + 1) if source < z else (z + 1, z - 1)
            before |= np.isin(numbered, classes[previous])
            if following in task.objects:
                denied |= ~are_nonempty(task.objects[following])
        settled = classes[z] == numbered[:, None, None]
        rows += review_slice(state, settled, list(task.organs), sources, before, denied, mm, review_below)
    return classes, rows


def prepare_folder(folder: Path, *facts: Any) -> None:
    """Create the folder of propagated slices; slices that were made from other `facts` are deleted."""
    text = json.dumps(facts, sort_keys=True)
    signature = SlicesSignature(sha256=hashlib.sha256(text.encode()).hexdigest())
    label = folder / "signature.json"
    with disk_errors(folder):
        if folder.is_dir() and _read_signature(label) != signature:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    signature.write(label)


def _read_signature(path: Path) -> SlicesSignature | None:
    """The signature of the slices in a folder; None where it is missing or unreadable."""
    try:
        return SlicesSignature.read(path)
    except RunError:
        return None


def _load_state(task: PropagationTask, folder: Path, z: int) -> SliceState:
    if z in task.objects:
        return SliceState.from_annotation(z, task.objects[z])
    sources = task.source_slices(z)
    reaching = [next(p for p in task.passes if p.start == source and z in p.order) for source in sources]
    found = [SliceState.load(_state_path(folder, pass_, z)) for pass_ in reaching]
    if len(found) == 1:
        return found[0]
    return fuse_states(found[0], found[1], (z - sources[0], sources[1] - z))


def _state_path(folder: Path, pass_: Pass, z: int) -> Path:
    return folder / pass_.name / f"{z:04d}.npz"


def _select_shown(foreground: Bools, labelled: tuple[int, ...] | None, case: str) -> list[int]:
    """The labelled slices that show an organ: those outlined as empty propagate nothing. Empty where none is known."""
    if labelled is None:
        return []
    shown = np.flatnonzero(foreground.any(axis=(1, 2)))
    if chosen := [z for z in labelled if z in shown]:
        return chosen
    raise ScanError(
        f"{case}: no outlined slice shows an organ that is to be propagated",
        "outline one in a slice that shows it, correct --target, or name the other cases with --case",
    )


def _keep_slices(values: Any, annotated: list[int]) -> Any:
    """Values (Z, H, W), set to 0 outside the annotated slices."""
    kept = np.zeros_like(values)
    kept[annotated] = values[annotated]
    return kept
