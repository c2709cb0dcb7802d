"""`frugalseg propagate`: one annotated slice in, or several, and the whole volume out.

Of the annotation only the annotated slices are used. They come out as they went in, and the note names them, so that
`frugalseg evaluate` leaves them out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frugalseg._version import __version__
from frugalseg.dataset.modality import scale_of, settle
from frugalseg.dataset.targets import Targets, parse_targets, to_values
from frugalseg.engine.device import describe, find_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.progress import progress, say
from frugalseg.engine.threads import with_threads
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.options import PropagateOptions
from frugalseg.sam.engines import Engine, Project, Video
from frugalseg.sam.given import check_kept, forget_changed, pair, read_given
from frugalseg.sam.load import find_weights, load_promptable
from frugalseg.sam.passes import as_ranges
from frugalseg.sam.prompted import promptable_of, settings_of
from frugalseg.sam.propagation import Task, assemble, keep_or_clear, run_passes
from frugalseg.sam.refine import note_beside
from frugalseg.sam.review import ANNOTATED, CARRIED, Row, to_review, write_rows
from frugalseg.sam.slices import ScanSlices
from frugalseg.segment.mask_folder import MaskFolder, Words

WORDS = Words("propagation", "propagating", "propagated", "propagate")
SAME = ("method", "promptable", "settings", "targets")


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
    images, annotations = pair(options.images, options.annotations, options.case)
    check_kept(annotations, images, options.out)
    options, expected = settle(options, images)
    wanted, intensity = parse_targets(options.target), scale_of(options)
    known = note_beside(options.annotations).get("targets", {})
    engine, model = _engine(options, device)
    note = _note(options, images, model, wanted or known)
    folder = MaskFolder.claim(options, images, note, SAME, WORDS)
    forget_changed(folder, annotations)

    def work(case: str, path: Path) -> tuple[Volume, dict[str, Any]]:
        volume = read_volume(path)
        expected.check(case, path, volume)
        scan = ScanSlices.of(volume, intensity)
        given = read_given(case, volume, annotations[case])
        task = Task.of(case, scan, given, options, wanted, known)
        source = {"mask": str(annotations[case].resolve()), "sha256": sha256(annotations[case])}
        store = _store(options, case)
        keep_or_clear(store, [note[key] for key in SAME], scan.fingerprint, source["sha256"], task.annotated)
        with progress(case, sum(len(pass_.order) for pass_ in task.passes), "slices") as bar:
            run_passes(engine, task, store, bar.advance)
        classes, rows = assemble(task, store, options.review_below)
        write_rows(options.out / f"{case}.slices.csv", rows)
        _announce(case, task, rows)
        mask = volume.with_array(scan.unstack(to_values(classes, task.organs)))
        return mask, {"annotated": task.annotated, "given": source, "propagation": _told(task, rows)}

    try:
        return folder.fill(work, describe(device))
    finally:
        for case in folder.note["masks"]:  # only now: until its mask is written, a scan can go on from these
            shutil.rmtree(_store(options, case), ignore_errors=True)


def _store(options: PropagateOptions, case: str) -> Path:
    """Where the slices lie that a scan's propagation has reached."""
    return options.out / f".{case}.partial"


def _note(options: PropagateOptions, images: Mapping[str, Path], model: Any, targets: Targets) -> dict[str, Any]:
    """What is known beforehand."""
    return {
        "version": __version__,
        "method": "propagate",
        "promptable": promptable_of(options, model),
        "settings": settings_of(options, "annotations"),
        "targets": {name: list(values) for name, values in targets.items()},
        "images": {case: str(path.resolve()) for case, path in images.items()},
        "masks": {},
        "annotated": {},
        "given": {},
        "roles": None,
        "propagation": {},
        "failed": {},
    }


def _engine(options: PropagateOptions, device: torch.device) -> tuple[Engine, Any]:
    """The engine, and its model."""
    if options.engine == "project":
        model = load_promptable(options.model, device, options.precision)
        return Project(model, options), model
    from frugalseg.sam.video import load_video  # transformers takes seconds to import

    video = load_video(find_weights(options.model), device, options.precision)
    return Video(video), video


def _told(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    """What the note says of a scan."""
    return {
        "slices": [task.first, task.last],
        "annotated_slices": {organ: _at(rows, organ, ANNOTATED) for organ in task.organs},
        "carried_slices": {organ: len(_at(rows, organ, CARRIED)) for organ in task.organs},
        "needs_review": to_review(rows),
    }


def _at(rows: Sequence[Row], organ: str, source: str) -> list[int]:
    return [row.slice for row in rows if row.organ == organ and row.source == source]


def _announce(case: str, task: Task, rows: Sequence[Row]) -> None:
    if not task.passes:
        say(f"{case}: there is no slice beside the annotated one")
    for organ in task.organs:
        given, carried = _at(rows, organ, ANNOTATED), _at(rows, organ, CARRIED)
        if not given:
            say(f"{case}, {organ}: in no annotated slice")
            continue
        review = as_ranges(to_review(rows).get(organ, [])) or "none"
        say(f"{case}, {organ}: {as_ranges(given)} → {as_ranges(given + carried)}; slices that need review: {review}")
