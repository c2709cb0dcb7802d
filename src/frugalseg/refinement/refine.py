"""`frugalseg refine`: re-segment each part of a mask by prompting a promptable model with its bounding box.

References are read with --oracle only, which predictions.json records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg._version import __version__
from frugalseg.confidence.assess import assess
from frugalseg.confidence.overlap import compare
from frugalseg.confidence.table import write_scan_confidences, write_slice_confidences
from frugalseg.dataset.modality import resolve_intensity, to_intensity_scale
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.device import describe_device, find_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.progress import progress, say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import PairingError
from frugalseg.imaging.find import find_dataset
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
from frugalseg.options import PromptableOptions, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import load_promptable
from frugalseg.promptable.protocol import Promptable
from frugalseg.records.confidence import OrganCalibration, OrganConfidence
from frugalseg.records.predictions import CaseRecord, InputMask, PredictionRecord, PromptableUse, Refinement
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.promise import find_calibrations
from frugalseg.refinement.refiner import Refiner

WORDS = Words("refinement", "refining", "refined", "refine")
COARSE = "coarse"
"""Folder beside refined masks for the predictions that `predict --refine` refined."""
NO_RECORD = PredictionRecord(roles=None)
RESUME_FIELDS = ("method", "promptable", "settings", "targets", "model", "weights_sha256")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is read of one scan.

    Attributes:
        volume: the scan in the axes of its file.
        scan: its slices.
        given, reference: the mask to refine, and the reference with --oracle, on the scan's grid.
    """

    volume: Volume
    scan: ScanSlices
    given: Volume
    reference: Volume | None


@with_threads
def refine(options: RefineOptions) -> dict[str, Path]:
    """Refine every mask of `options.masks`; returns case id → new mask.

    A scan that cannot be read, or whose mask has another grid, is reported and skipped.

    Raises:
        ScanError: some scans failed, after all others are written.
        PairingError: masks without scans, or no scan with a mask.
        RunError: `out` is in use, contains the input masks, or holds no refinement with these options to resume; or
            the model's weights are missing.
        OptionError: an unknown case, model or target.
        DeviceError: the requested GPU is missing, or its memory is too small for one slice.
    """
    check_out(options.out)
    device = find_device(options.device)
    images, masks = pair_scans_and_masks(options.images, options.masks, options.case)
    refuse_overwriting_inputs(masks, images, options.out)
    references = {} if options.oracle is None else _find_references(options, images)
    options, expected = resolve_intensity(options, images)
    intensity = to_intensity_scale(options)
    wanted = parse_targets(options.target)
    source = PredictionRecord.read_beside(options.masks) or NO_RECORD
    model = load_promptable(options.model, device, options.precision)
    folder = MaskFolder.claim(
        options, images, _make_record(options, images, model, source, wanted), RESUME_FIELDS, WORDS, (COARSE,)
    )
    invalidate_changed(folder, masks)
    refiner = Refiner(model, options)
    calibrations = {} if references else find_calibrations(source, options, model.signature)

    def read(case: str, path: Path) -> Inputs:
        volume = read_volume(path)
        expected.check(case, path, volume)
        reference = read_input_mask(case, volume, references[case]) if references else None
        scan, given = ScanSlices.of(volume, intensity), read_input_mask(case, volume, masks[case])
        return Inputs(volume, scan, given, reference)

    def work(case: str, inputs: Inputs) -> tuple[Volume, CaseRecord]:
        scan, given, reference = inputs.scan, inputs.given, inputs.reference
        organs = find_organs(given if reference is None else reference, wanted, source.targets)
        classes, others = _split_mask(scan, given, organs)
        prompting = None
        if reference is not None:
            prompting, others = to_classes(scan.stack(reference), organs), np.zeros_like(others)
        with progress(case, len(scan), "slices") as bar:
            names = dict(enumerate(organs, start=1))
            refined, counts = refiner.refine(scan, classes, prompting, options.cache, bar.advance, names)
        given_mask = InputMask(str(masks[case].resolve()), sha256(masks[case]))
        known = source.select_case(case)  # `evaluate` needs it for refined masks too
        confidence = None if prompting is not None else _assess(refined, classes, organs, calibrations)
        if confidence is not None:
            write_slice_confidences(options.out, case, confidence)
        case_record = CaseRecord(
            role=known.role,
            annotated=known.annotated,
            given=given_mask,
            confidence=confidence,
            refinement=counts,
        )
        return inputs.volume.with_array(scan.unstack(_join_masks(refined, others, organs))), case_record

    try:
        written = folder.fill_reading_ahead(read, work, describe_device(device))
    finally:  # also where some scans failed
        write_scan_confidences(options.out, folder.record.confidence)
    _announce(folder.record.refinement, options, wanted)
    return written


def _make_record(
    options: RefineOptions, images: Mapping[str, Path], model: Promptable, source: PredictionRecord, wanted: Targets
) -> PredictionRecord:
    """The record before the first scan; it keeps what the input masks' record says of their model and its scans."""
    before = {"before": source.settings} if source.settings else {}
    return PredictionRecord(
        version=__version__,
        method="refine" if options.oracle is None else "oracle",
        model=source.model,
        weights_sha256=source.weights_sha256,
        promptable=make_promptable_use(options, model),
        settings={**before, **collect_settings(options, "masks")},
        targets=wanted or source.targets,
        images={case: str(path.resolve()) for case, path in images.items()},
        roles=None if source.roles is None else {},
        failed=source.failed,
    )


def _find_references(options: RefineOptions, images: Mapping[str, Path]) -> dict[str, Path]:
    assert options.oracle is not None
    references = find_dataset(options.images, options.oracle)[1]
    if missing := [case for case in images if case not in references]:
        raise PairingError(f"{options.oracle} holds no reference of {missing[0]}", "select scans with --case")
    return references


def _assess(
    refined: Classes, given: Classes, organs: Targets, calibrations: Mapping[str, OrganCalibration]
) -> dict[str, OrganConfidence]:
    """Organ → the confidence in its refined mask: its agreement with the input mask."""
    overlaps = zip(organs, compare(refined, given, len(organs)), strict=True)
    assessed = {organ: assess(overlap, "agreement", calibrations.get(organ)) for organ, overlap in overlaps}
    return {organ: confidence for organ, confidence in assessed.items() if confidence is not None}


def _split_mask(scan: ScanSlices, given: Volume, organs: Targets) -> tuple[Any, Any]:
    """The classes to refine, and the label values of everything else, both (Z, H, W)."""
    values = scan.stack(given)
    classes = to_classes(values, organs)
    return classes, np.where(classes > 0, 0, values)


def _join_masks(refined: Any, others: Any, organs: Targets) -> Any:
    """Refined classes as label values, below the other organs, which stay unchanged."""
    values = to_values(refined, organs)
    return np.where(others > 0, others, values).astype(np.result_type(values, others), copy=False)


def _announce(refinement: Mapping[str, Refinement], options: RefineOptions, wanted: Targets) -> None:
    organs = [organ for scan in refinement.values() for organ in scan.organs.values()]
    boxes, kept = sum(organ.boxes for organ in organs), sum(organ.kept for organ in organs)
    small = sum(organ.too_small for organ in organs)
    found = {name for scan in refinement.values() for name, n in scan.organs.items() if n.boxes + n.too_small}
    for name in wanted:
        if name not in found:
            say(f"{name}: in none of the masks")
    if boxes:
        say(
            f"{boxes} boxes; for {kept} of them ({100 * kept / boxes:.1f}%) the IoU of the model's mask with the input "
            f"mask was below {options.min_iou:g}, and the input mask was kept"
        )
    if small:
        say(f"{small} parts smaller than {options.min_area_mm2:g} mm² were kept unchanged")
    if options.oracle is not None:
        say("oracle: the boxes are from the references; this is not a result of the method")


def collect_settings(options: PromptableOptions, *excluded: str) -> dict[str, object]:
    """The options that change the result, for predictions.json, except `excluded`, which are recorded elsewhere."""
    irrelevant = {"images", "out", "case", "target", "model", "device", "threads", "batch_size", "cache"}
    irrelevant |= {"overwrite", "resume"}
    relevant = {name: value for name, value in asdict(options).items() if name not in irrelevant | set(excluded)}
    settings: dict[str, object] = json.loads(json.dumps(relevant, default=str))
    return settings


def make_promptable_use(options: PromptableOptions, model: Promptable) -> PromptableUse:
    """The model, its recipe and the intensity scale, for predictions.json."""
    recipe = json.loads(json.dumps(asdict(model.recipe)))
    return PromptableUse(options.model, model.name, model.signature, recipe, to_intensity_scale(options))
