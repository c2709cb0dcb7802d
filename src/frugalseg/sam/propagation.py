"""One scan's propagation: pass by pass along its slices, kept on disk as it goes, and put together in the end.

Memory holds the scan, its mask, and what an engine needs of a few slices; the slices reached lie in a folder, from
which an interrupted propagation goes on.
"""

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
from frugalseg.engine.files import write_json
from frugalseg.engine.forms import Form
from frugalseg.errors import RunError, disk_errors
from frugalseg.imaging.volume import Volume
from frugalseg.options import PropagateOptions, numbers
from frugalseg.sam.boxes import Classes
from frugalseg.sam.engines import Engine, remaining
from frugalseg.sam.fuse import fuse
from frugalseg.sam.given import organs_in
from frugalseg.sam.passes import Pass, annotated_slices, neighbours, passes
from frugalseg.sam.review import Row, judge
from frugalseg.sam.slice_state import Beliefs, Bools, SliceState, nonempty
from frugalseg.sam.slices import ScanSlices

NO_BELIEFS: Beliefs = np.empty((0, 0, 0), np.float32)
"""Those of all slices of a scan would fill the memory (a view of none of them too: it keeps them all)."""


SIGNATURE = Form(str, RunError, "delete its folder")


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be done in one scan.

    Attributes:
        scan: its slices.
        organs: the K objects.
        objects: annotated slice → (K, H, W) masks; organs that a slice lacks are empty there.
        first, last: slices to work on.
    """

    scan: ScanSlices
    organs: Targets
    objects: Mapping[int, Bools]
    first: int
    last: int

    @classmethod
    def of(
        cls, case: str, scan: ScanSlices, given: Volume, options: PropagateOptions, wanted: Targets, known: Targets
    ) -> Task:
        """The task that an annotation sets.

        Args:
            case: for messages.
            scan: its slices.
            given: the annotation, on the scan's grid; of it only the annotated slices are used.
            options: which slices, and between which.
            wanted: of --target.
            known: names of label values, where they are known.

        Raises:
            ScanError: see `passes.annotated_slices` and `given.organs_in`.
        """
        values = scan.stack(given)
        named, span = numbers("slices", options.slices), numbers("range", options.range)
        meant = values > 0 if not wanted else to_classes(values, wanted) > 0
        annotated = annotated_slices(meant, named, span, case)
        shown = given.with_array(scan.unstack(_only(values, annotated)))
        organs = organs_in(shown, wanted, known)
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
        """One in each direction from every annotated slice."""
        return passes(self.annotated, self.first, self.last)

    def sources(self, z: int) -> list[int]:
        """The slices that `z` is reached from: its annotated neighbours, or itself where it is annotated."""
        return [z] if z in self.objects else neighbours(z, self.annotated)


def run_passes(engine: Engine, task: Task, store: Path, advance: Callable[[int], None]) -> None:
    """Do all passes of a task, and keep every slice in `store`; those that are there already are not done again."""
    propagate = engine.on(task.scan)
    for pass_ in task.passes:
        reached = 0
        while reached < len(pass_.order) and _path(store, pass_, pass_.order[reached]).is_file():
            reached += 1
        advance(reached)
        state = SliceState.load(_path(store, pass_, pass_.order[reached - 1])) if reached else None
        if remaining(pass_, state):
            for found in propagate(pass_, task.objects[pass_.start], state):
                found.save(_path(store, pass_, found.z))
                advance(1)


def assemble(task: Task, store: Path, review_below: float) -> tuple[Classes, list[Row]]:
    """The mask (Z, H, W) and what is to be said of its slices; annotated slices as they were given."""
    classes = np.zeros((len(task.scan), *task.scan.shape), dtype=np.uint8)
    figures = {}
    for z in range(task.first, task.last + 1):
        state = _believed(task, store, z)
        for number, mask in enumerate(state.masks(), start=1):
            classes[z][mask] = number
        figures[z] = replace(state, beliefs=NO_BELIEFS)
    rows: list[Row] = []
    numbered = np.arange(1, len(task.organs) + 1)
    mm = (task.scan.thickness_mm, *task.scan.pixel_mm)
    for z, state in figures.items():
        sources = task.sources(z)
        before, denied = np.zeros(len(numbered), bool), np.zeros(len(numbered), bool)
        for source in () if z in task.objects else sources:
            previous, following = (z - 1, z + 1) if source < z else (z + 1, z - 1)
            before |= np.isin(numbered, classes[previous])
            if following in task.objects:
                denied |= ~nonempty(task.objects[following])
        settled = classes[z] == numbered[:, None, None]
        rows += judge(state, settled, list(task.organs), sources, before, denied, mm, review_below)
    return classes, rows


def keep_or_clear(store: Path, *facts: Any) -> None:
    """Make the folder of the slices reached; what was reached under other circumstances is deleted."""
    signature = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    label = store / "signature.json"
    with disk_errors(store):
        if store.is_dir() and _label(label) != signature:
            shutil.rmtree(store)
        store.mkdir(parents=True, exist_ok=True)
    write_json(label, signature)


def _label(path: Path) -> str | None:
    """The signature of the slices in a folder; None where there is none that can be read."""
    try:
        told: str = SIGNATURE.read(path)
    except RunError:
        return None
    return told


def _believed(task: Task, store: Path, z: int) -> SliceState:
    if z in task.objects:
        return SliceState.given(z, task.objects[z])
    sources = task.sources(z)
    reaching = [next(one for one in task.passes if one.start == source and z in one.order) for source in sources]
    found = [SliceState.load(_path(store, pass_, z)) for pass_ in reaching]
    if len(found) == 1:
        return found[0]
    return fuse(found[0], found[1], (z - sources[0], sources[1] - z))


def _path(store: Path, pass_: Pass, z: int) -> Path:
    return store / pass_.name / f"{z:04d}.npz"


def _only(values: Any, annotated: list[int]) -> Any:
    """Values (Z, H, W) with nothing but the annotated slices left."""
    shown = np.zeros_like(values)
    shown[annotated] = values[annotated]
    return shown
