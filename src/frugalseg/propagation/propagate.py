"""`frugalseg propagate`: one annotated slice in, or several, and the whole volume out.

Of the annotation only the annotated slices are used. They come out as they went in, and the note names them, so that
`frugalseg evaluate` leaves them out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalseg._version import __version__
from frugalseg.dataset.modality import scale_of, settle
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.device import describe, find_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.progress import progress, say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import RunError, disk_errors
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.folder import MaskFolder, Words
from frugalseg.masks.inputs import (
    find_organs,
    invalidate_changed,
    pair_scans_and_masks,
    read_input_mask,
    refuse_overwriting_inputs,
)
from frugalseg.options import PropagateOptions, numbers
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import find_weights, load_promptable
from frugalseg.propagation.engines import BoxEngine, Engine, VideoEngine, remaining_slices
from frugalseg.propagation.passes import (
    Beliefs,
    Bools,
    Pass,
    SliceState,
    are_nonempty,
    find_annotated_slices,
    find_neighbours,
    format_ranges,
    fuse_states,
    plan_passes,
)
from frugalseg.propagation.review import ANNOTATED, PROPAGATED, ReviewRow, review_slice, slices_to_review, write_rows
from frugalseg.records.predictions import CaseRecord, GivenMask, PredictionRecord, Propagation
from frugalseg.records.signatures import SlicesSignature
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.refine import collect_settings, make_promptable_use

WORDS = Words("propagation", "propagating", "propagated", "propagate")
RESUME_FIELDS = ("method", "promptable", "settings", "targets")


@with_threads
def propagate(options: PropagateOptions) -> dict[str, Path]:
    """Propagate the annotated slices of every scan through it; returns case id → mask.

    Beside each mask lies <case>.slices.csv with one row a slice and organ (see `review.Row`). A killed run goes on
    where it stopped, within a scan too.

    Raises:
        ScanError: some scans failed, after all others are written: unreadable, an annotation that is empty or on
            another grid, a slice that is not there.
        PairingError: annotations without scans, or the other way round for all of them.
        RunError: `out` is in use, holds the annotations, or no propagation of this kind to resume; or the model's
            weights are missing, or not of the kind that the engine needs.
        OptionError: an unknown case, model or target.
        DeviceError: the GPU asked for is not there, or too small for one slice.
    """
    check_out(options.out)
    device = find_device(options.device)
    images, annotations = pair_scans_and_masks(options.images, options.annotations, options.case)
    refuse_overwriting_inputs(annotations, images, options.out)
    options, expected = settle(options, images)
    wanted, intensity = parse_targets(options.target), scale_of(options)
    given_record = PredictionRecord.beside(options.annotations)
    known = given_record.targets if given_record else {}
    engine, model = _load_engine(options, device)
    record = _make_record(options, images, model, wanted or known)
    made_so = [record.to_json()[key] for key in RESUME_FIELDS]
    folder = MaskFolder.claim(options, images, record, RESUME_FIELDS, WORDS)
    invalidate_changed(folder, annotations)

    def work(case: str, path: Path) -> tuple[Volume, CaseRecord]:
        volume = read_volume(path)
        expected.check(case, path, volume)
        scan = ScanSlices.of(volume, intensity)
        given = read_input_mask(case, volume, annotations[case])
        task = PropagationTask.of(case, scan, given, options, wanted, known)
        source = GivenMask(str(annotations[case].resolve()), sha256(annotations[case]))
        store = _partial_folder(options, case)
        prepare_folder(store, made_so, scan.fingerprint, source.sha256, task.annotated)
        with progress(case, sum(len(pass_.order) for pass_ in task.passes), "slices") as bar:
            run_passes(engine, task, store, bar.advance)
        classes, rows = assemble_mask(task, store, options.review_below)
        write_rows(options.out / f"{case}.slices.csv", rows)
        _announce(case, task, rows)
        mask = volume.with_array(scan.unstack(to_values(classes, task.organs)))
        annotated = tuple(task.annotated)
        return mask, CaseRecord(annotated=annotated, given=source, propagation=_make_propagation(task, rows))

    try:
        return folder.fill(work, describe(device))
    finally:
        for case in folder.record.masks:  # only now: until its mask is written, a scan can go on from these
            shutil.rmtree(_partial_folder(options, case), ignore_errors=True)


def _partial_folder(options: PropagateOptions, case: str) -> Path:
    """Where the slices lie that a scan's propagation has reached."""
    return options.out / f".{case}.partial"


def _make_record(
    options: PropagateOptions, images: Mapping[str, Path], model: Any, targets: Targets
) -> PredictionRecord:
    """What is known beforehand."""
    return PredictionRecord(
        version=__version__,
        method="propagate",
        promptable=make_promptable_use(options, model),
        settings=collect_settings(options, "annotations"),
        targets=targets,
        images={case: str(path.resolve()) for case, path in images.items()},
        roles=None,
    )


def _load_engine(options: PropagateOptions, device: torch.device) -> tuple[Engine, Any]:
    """The engine, and its model."""
    if options.engine == "box":
        model = load_promptable(options.model, device, options.precision)
        return BoxEngine(model, options), model
    from frugalseg.promptable.sam2_video import load_video_model  # transformers takes seconds to import

    video = load_video_model(find_weights(options.model), device, options.precision)
    return VideoEngine(video), video


def _make_propagation(task: PropagationTask, rows: Sequence[ReviewRow]) -> Propagation:
    """What is recorded of a scan."""
    return Propagation(
        slices=(task.first, task.last),
        annotated_slices={organ: tuple(_select_slices(rows, organ, ANNOTATED)) for organ in task.organs},
        carried_slices={organ: len(_select_slices(rows, organ, PROPAGATED)) for organ in task.organs},
        needs_review={organ: tuple(slices) for organ, slices in slices_to_review(rows).items()},
    )


def _select_slices(rows: Sequence[ReviewRow], organ: str, source: str) -> list[int]:
    return [row.slice for row in rows if row.organ == organ and row.source == source]


def _announce(case: str, task: PropagationTask, rows: Sequence[ReviewRow]) -> None:
    if not task.passes:
        say(f"{case}: there is no slice besides the annotated one")
    for organ in task.organs:
        given, propagated = _select_slices(rows, organ, ANNOTATED), _select_slices(rows, organ, PROPAGATED)
        if not given:
            say(f"{case}, {organ}: in no annotated slice")
            continue
        review = format_ranges(slices_to_review(rows).get(organ, [])) or "none"
        covered = format_ranges(given + propagated)
        say(f"{case}, {organ}: {format_ranges(given)} → {covered}; slices that need review: {review}")


NO_BELIEFS: Beliefs = np.empty((0, 0, 0), np.float32)
"""Those of all slices of a scan would fill the memory (a view of none of them too: it keeps them all)."""


@dataclass(frozen=True, eq=False)
class PropagationTask:
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
    ) -> PropagationTask:
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
        named, span = numbers("slices", options.slices), numbers("slice-range", options.slice_range)
        meant = values > 0 if not wanted else to_classes(values, wanted) > 0
        annotated = find_annotated_slices(meant, named, span, case)
        shown = given.with_array(scan.unstack(_keep_slices(values, annotated)))
        organs = find_organs(shown, wanted, known)
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
        return plan_passes(self.annotated, self.first, self.last)

    def source_slices(self, z: int) -> list[int]:
        """The slices that `z` is reached from: its annotated neighbours, or itself where it is annotated."""
        return [z] if z in self.objects else find_neighbours(z, self.annotated)


def run_passes(engine: Engine, task: PropagationTask, store: Path, advance: Callable[[int], None]) -> None:
    """Do all passes of a task, and keep every slice in `store`; those that are there already are not done again."""
    propagate = engine.make_propagator(task.scan)
    for pass_ in task.passes:
        reached = 0
        while reached < len(pass_.order) and _state_path(store, pass_, pass_.order[reached]).is_file():
            reached += 1
        advance(reached)
        state = SliceState.load(_state_path(store, pass_, pass_.order[reached - 1])) if reached else None
        if remaining_slices(pass_, state):
            for found in propagate(pass_, task.objects[pass_.start], state):
                found.save(_state_path(store, pass_, found.z))
                advance(1)


def assemble_mask(task: PropagationTask, store: Path, review_below: float) -> tuple[Classes, list[ReviewRow]]:
    """The mask (Z, H, W) and what is to be said of its slices; annotated slices as they were given."""
    classes = np.zeros((len(task.scan), *task.scan.shape), dtype=np.uint8)
    figures = {}
    for z in range(task.first, task.last + 1):
        state = _load_state(task, store, z)
        for number, mask in enumerate(state.masks(), start=1):
            classes[z][mask] = number
        figures[z] = replace(state, beliefs=NO_BELIEFS)
    rows: list[ReviewRow] = []
    numbered = np.arange(1, len(task.organs) + 1)
    mm = (task.scan.thickness_mm, *task.scan.pixel_mm)
    for z, state in figures.items():
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


def prepare_folder(store: Path, *facts: Any) -> None:
    """Make the folder of the slices reached; what was reached under other circumstances is deleted."""
    text = json.dumps(facts, sort_keys=True)
    signature = SlicesSignature(sha256=hashlib.sha256(text.encode()).hexdigest())
    label = store / "signature.json"
    with disk_errors(store):
        if store.is_dir() and _read_signature(label) != signature:
            shutil.rmtree(store)
        store.mkdir(parents=True, exist_ok=True)
    signature.write(label)


def _read_signature(path: Path) -> SlicesSignature | None:
    """That of the slices in a folder; None where there is none that can be read."""
    try:
        return SlicesSignature.read(path)
    except RunError:
        return None


def _load_state(task: PropagationTask, store: Path, z: int) -> SliceState:
    if z in task.objects:
        return SliceState.from_annotation(z, task.objects[z])
    sources = task.source_slices(z)
    reaching = [next(one for one in task.passes if one.start == source and z in one.order) for source in sources]
    found = [SliceState.load(_state_path(store, pass_, z)) for pass_ in reaching]
    if len(found) == 1:
        return found[0]
    return fuse_states(found[0], found[1], (z - sources[0], sources[1] - z))


def _state_path(store: Path, pass_: Pass, z: int) -> Path:
    return store / pass_.name / f"{z:04d}.npz"


def _keep_slices(values: Any, annotated: list[int]) -> Any:
    """Values (Z, H, W) with nothing but the annotated slices left."""
    shown = np.zeros_like(values)
    shown[annotated] = values[annotated]
    return shown
