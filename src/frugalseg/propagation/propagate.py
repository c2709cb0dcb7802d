"""`frugalseg propagate`: propagate one or several annotated slices through the whole volume.

Only the annotated slices of the annotation are used. They are written unchanged, and predictions.json lists them, so
that `frugalseg evaluate` excludes them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from frugalseg._version import __version__
from frugalseg.confidence.table import write_scan_confidences
from frugalseg.dataset.annotated import find_labelled_slices
from frugalseg.dataset.modality import ExpectedModality, resolve_intensity, to_intensity_scale
from frugalseg.dataset.targets import Targets, parse_targets, to_values
from frugalseg.engine.device import describe_device, find_device
from frugalseg.engine.files import check_out
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.describe import describe, list_previews
from frugalseg.masks.folder import MaskFolder, Words
from frugalseg.masks.inputs import (
    describe_input,
    invalidate_changed,
    pair_scans_and_masks,
    read_input_mask,
    refuse_overwriting_inputs,
)
from frugalseg.masks.output import MaskOutput
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.options import PropagateOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import find_weights
from frugalseg.propagation.calibrate import find_calibrations
from frugalseg.propagation.engines import Engine, load_engine
from frugalseg.propagation.passes import format_ranges
from frugalseg.propagation.review import ANNOTATED, PROPAGATED, ReviewRow, assess_organs, format_rows, slices_to_review
from frugalseg.propagation.task import PropagationTask, assemble_mask, prepare_folder, run_passes
from frugalseg.records.annotations import AnnotationsRecord
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.predictions import CaseRecord, InputMask, PredictionRecord, Propagation
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
        task = PropagationTask.of(case, scan, given, self.labelled.get(case), self.options, self.wanted, self.known)
        annotation = self.describe_input(case)
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

    def wanted_files(self, case: str) -> list[str]:
        """See `MaskWork.wanted_files`."""
        return list_previews(case, self.options.preview)

    def describe_input(self, case: str) -> InputMask:
        """The annotation as it is now."""
        return describe_input(self.annotations[case], self.labelled.get(case))

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
    invalidate_changed(folder, work.describe_input)
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


def _make_scan_record(task: PropagationTask, rows: Sequence[ReviewRow]) -> Propagation:
    """The record of a scan."""
    return Propagation(
        slices=(task.first, task.last),
        annotated_slices={organ: tuple(_select_slices(rows, organ, ANNOTATED)) for organ in task.organs},
        propagated_slices={organ: len(_select_slices(rows, organ, PROPAGATED)) for organ in task.organs},
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
