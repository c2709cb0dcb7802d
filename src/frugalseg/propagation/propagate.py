"""`frugalseg propagate`: propagate one or several annotated slices through the whole volume.

Only the annotated slices of the annotation are used. They are written unchanged, and predictions.json lists them, so
that `frugalseg evaluate` excludes them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frugalseg._version import __version__
from frugalseg.confidence.table import write_scan_confidences
from frugalseg.dataset.annotated import find_labelled_slices
from frugalseg.dataset.modality import ExpectedModality, resolve_intensity, to_intensity_scale
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.device import describe_device, find_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import RunError, disk_errors
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.components import Bools
from frugalseg.masks.describe import describe
from frugalseg.masks.folder import MaskFolder, Words
from frugalseg.masks.inputs import (
    find_organs,
    invalidate_changed,
    pair_scans_and_masks,
    read_input_mask,
    refuse_overwriting_inputs,
)
from frugalseg.masks.output import MaskOutput
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.options import PropagateOptions, parse_slice_numbers
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import find_weights, load_promptable
from frugalseg.propagation.calibrate import find_calibrations
from frugalseg.propagation.engines import BoxEngine, Engine, VideoEngine, remaining_slices
from frugalseg.propagation.passes import (
    Beliefs,
    Pass,
    SliceState,
    are_nonempty,
    find_annotated_slices,
    find_neighbours,
    format_ranges,
    fuse_states,
    plan_passes,
)
from frugalseg.propagation.review import (
    ANNOTATED,
    PROPAGATED,
    ReviewRow,
    assess_organs,
    format_rows,
    review_slice,
    slices_to_review,
)
from frugalseg.records.annotations import AnnotationsRecord
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.predictions import CaseRecord, InputMask, PredictionRecord, Propagation
from frugalseg.records.signatures import SlicesSignature
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.refine import collect_settings, make_promptable_use

WORDS = Words("propagation", "propagating", "propagated", "propagate")
RESUME_FIELDS = ("method", "promptable", "settings", "targets")


class Annotated(NamedTuple):
    """A scan and its annotation on the same grid."""

    volume: Volume
    scan: ScanSlices
    given: Volume


@dataclass(frozen=True, eq=False)
class PropagateWork(MaskWork[Annotated]):
    """The propagation through one scan.

    Attributes:
        expected: which modality the scans are of.
        annotations: case id → annotation.
        labelled: case id → the slices that a person outlined, where that is known.
        wanted: of --target.
        known: names of label values, as far as they are known.
    """

    options: PropagateOptions
    expected: ExpectedModality
    annotations: Mapping[str, Path]
    labelled: Mapping[str, tuple[int, ...]]
    wanted: Targets
    known: Targets

    @cached_property
    def engine_and_model(self) -> tuple[Engine, Any]:
        """Those of this process; for their errors see `load_engine`."""
        return load_engine(self.options, find_device(self.options.device))

    @property
    def model(self) -> Any:
        """The model of this process."""
        return self.engine_and_model[1]

    @cached_property
    def calibrations(self) -> Mapping[str, OrganCalibration]:
        """Organ → calibration of the confidence in its masks."""
        settings = collect_settings(self.options, "annotations")
        return find_calibrations(self.options.calibration, self.model.signature, settings)

    @cached_property
    def facts(self) -> list[Any]:
        """What the slices of an interrupted run must agree in."""
        record = _make_record(self.options, {}, self.model, self.wanted or self.known).to_json()
        return [record[key] for key in RESUME_FIELDS]

    def inputs(self) -> Iterable[Path]:
        """See `CaseWork.inputs`."""
        return (self.options.images, self.options.annotations, find_weights(self.options.model))

    def set_up(self) -> None:
        """See `CaseWork.set_up`."""
        _ = self.engine_and_model, self.calibrations

    def read(self, case: str, job: Path) -> Annotated:
        """The scan and its annotation."""
        volume = read_volume(job)
        self.expected.check(case, job, volume)
        scan = ScanSlices.of(volume, to_intensity_scale(self.options))
        return Annotated(volume, scan, read_input_mask(case, volume, self.annotations[case]))

    def make(self, case: str, source: Annotated) -> MadeMask:
        """The propagated mask, and what is to be reviewed of it."""
        volume, scan, given = source
        own = _name_slices(self.options, scan, given, self.labelled.get(case))
        task = PropagationTask.of(case, scan, given, own, self.wanted, self.known)
        annotation = InputMask(str(self.annotations[case].resolve()), sha256(self.annotations[case]))
        with self._partial(case) as partial:
            prepare_folder(partial, self.facts, scan.fingerprint, annotation.sha256, task.annotated)
            with progress(case, sum(len(pass_.order) for pass_ in task.passes), "slices") as bar:
                run_passes(self.engine_and_model[0], task, partial, bar.advance)
            classes, rows = assemble_mask(task, partial, self.options.review_below)
        _announce(case, task, rows)
        record = CaseRecord(
            annotated=tuple(task.annotated),
            given=annotation,
            confidence=assess_organs(rows, self.calibrations),
            propagation=_make_scan_record(task, rows),
        )
        mask = volume.with_array(scan.unstack(to_values(classes, task.organs)))
        output = MaskOutput.of(self.options, task.organs, WORDS.command, manual=True)
        made = MadeMask(mask, record, {f"{case}.slices.csv": format_rows(rows)}, output)
        return describe(made, case, volume, to_intensity_scale(self.options), self.options.preview)

    @contextmanager
    def _partial(self, case: str) -> Iterator[Path]:
        """The folder of a scan's slices that the propagation has reached. On a cluster --out need not be shared; what a
        lost machine has propagated is propagated again."""
        if self.options.ray is None:
            yield _partial_folder(self.options, case)
            return
        with tempfile.TemporaryDirectory(prefix="frugalseg-") as folder:
            yield Path(folder) / case


@with_threads
def propagate(options: PropagateOptions) -> dict[str, Path]:
    """Propagate the annotated slices of every scan through it; returns case id → mask.

    Next to each mask, <case>.slices.csv has one row per slice and organ (see `review.ReviewRow`). A killed run can be
    resumed where it stopped, without --ray also within a scan.

    Raises:
        ScanError: some scans failed, after all others are written: a scan is unreadable, or its annotation is empty,
            has another grid, or lacks a named slice.
        PairingError: annotations without scans, or no scan with an annotation.
        RunError: `out` is in use, contains the annotations, or holds no propagation with these options to resume; or
            the model's weights are missing, or not of the kind that the engine needs.
        OptionError: an unknown case, model or target.
        DeviceError: the requested GPU is missing, or its memory is too small for one slice.
    """
    check_out(options.out)
    with open_pool(options.ray, OneAfterAnother(), threads=options.threads) as pool:
        return _propagate(options, pool)


def _propagate(options: PropagateOptions, pool: Pool) -> dict[str, Path]:
    device = find_device(options.device)
    images, annotations = pair_scans_and_masks(options.images, options.annotations, options.case, options.series)
    annotations, labelled = find_labelled_slices(options.annotations, annotations)
    images = {case: images[case] for case in annotations}
    refuse_overwriting_inputs(annotations, images, options.out, options.output_type)
    options, expected = resolve_intensity(options, images)
    wanted = parse_targets(options.target)
    given_record = PredictionRecord.read_beside(options.annotations)
    known = given_record.targets if given_record else _read_label_names(options.annotations)
    work = PropagateWork(options, expected, annotations, labelled, wanted, known)
    record = _make_record(options, images, work.model, wanted or known)
    _ = work.calibrations  # says what it lacks before the first scan
    folder = MaskFolder.claim(options, images, record, RESUME_FIELDS, WORDS)
    invalidate_changed(folder, annotations)
    try:
        return folder.fill(work, describe_device(device), pool)
    finally:
        write_scan_confidences(options.out, folder.record.confidence)
        for case in folder.record.masks:  # only now: until its mask is written, a scan is resumed from these
            shutil.rmtree(_partial_folder(options, case), ignore_errors=True)


def _read_label_names(annotations: Path) -> Targets:
    """The organs that annotations.json names beside the masks; none without that file."""
    record = AnnotationsRecord.read_beside(annotations)
    return {} if record is None else {name: (value,) for name, value in record.labels.items()}


def _name_slices(
    options: PropagateOptions, scan: ScanSlices, given: Volume, labelled: tuple[int, ...] | None
) -> PropagateOptions:
    """The options with the slices of one scan that annotations.json lists, unless --slices names some.

    Slices that were outlined as empty propagate nothing, and are left out.
    """
    if labelled is None or options.slices:
        return options
    values = scan.stack(given)
    return replace(options, slices=",".join(str(z) for z in labelled if z < len(values) and values[z].any()))


def _partial_folder(options: PropagateOptions, case: str) -> Path:
    """The folder of a scan's slices that the propagation has reached."""
    return options.out / f".{case}.partial"


def _make_record(
    options: PropagateOptions, images: Mapping[str, Path], model: Any, targets: Targets
) -> PredictionRecord:
    """The record before the first scan."""
    return PredictionRecord(
        version=__version__,
        method="propagate",
        promptable=make_promptable_use(options, model),
        settings=collect_settings(options, "annotations"),
        targets=targets,
        images={case: str(path.resolve()) for case, path in images.items()},
        roles=None,
    )


def load_engine(options: PropagateOptions, device: torch.device) -> tuple[Engine, Any]:
    """The engine, and its model.

    Raises:
        OptionError, RunError: there is no such model, or it is not of the kind that the engine needs.
    """
    if options.engine == "box":
        model = load_promptable(options.model, device, options.precision)
        return BoxEngine(model, options), model
    from frugalseg.promptable.sam2_video import load_video_model  # transformers takes seconds to import

    video = load_video_model(find_weights(options.model), device, options.precision)
    return VideoEngine(video), video


def _make_scan_record(task: PropagationTask, rows: Sequence[ReviewRow]) -> Propagation:
    """The record of a scan."""
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
        say(f"{case}: the annotated slice is the only one")
    for organ in task.organs:
        given, propagated = _select_slices(rows, organ, ANNOTATED), _select_slices(rows, organ, PROPAGATED)
        if not given:
            say(f"{case}, {organ}: in no annotated slice")
            continue
        review = format_ranges(slices_to_review(rows).get(organ, [])) or "none"
        covered = format_ranges(given + propagated)
        say(f"{case}, {organ}: {format_ranges(given)} → {covered}; slices that need review: {review}")


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
        cls, case: str, scan: ScanSlices, given: Volume, options: PropagateOptions, wanted: Targets, known: Targets
    ) -> PropagationTask:
        """The task that an annotation sets.

        Args:
            case: for messages.
            scan: its slices.
            given: the annotation, on the scan's grid; only its annotated slices are used.
            options: annotated slices, and range of slices.
            wanted: of --target.
            known: names of label values, as far as they are known.

        Raises:
            ScanError: see `passes.find_annotated_slices` and `inputs.find_organs`.
        """
        values = scan.stack(given)
        named, span = (
            parse_slice_numbers("slices", options.slices),
            parse_slice_numbers("slice-range", options.slice_range),
        )
        foreground = values > 0 if not wanted else to_classes(values, wanted) > 0
        annotated = find_annotated_slices(foreground, named, span, case)
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


def _keep_slices(values: Any, annotated: list[int]) -> Any:
    """Values (Z, H, W), set to 0 outside the annotated slices."""
    kept = np.zeros_like(values)
    kept[annotated] = values[annotated]
    return kept
