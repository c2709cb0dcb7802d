"""`frugalseg refine`: re-segment each part of a mask by prompting a promptable model with its bounding box.

References are read with --oracle only, which predictions.json records.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalseg._version import __version__
from frugalseg.confidence.assess import assess
from frugalseg.confidence.overlap import compare
from frugalseg.confidence.table import format_slice_confidences, write_scan_confidences
from frugalseg.dataset.modality import ExpectedModality, resolve_intensity, to_intensity_scale
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.device import describe_device, find_device
from frugalseg.engine.files import check_out
from frugalseg.engine.memory_estimate import count_inference_bytes, tell_memory
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import PairingError
from frugalseg.imaging.extent import LONG_WORK, count_voxels
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.describe import describe, list_previews
from frugalseg.masks.folder import MaskFolder, Words
from frugalseg.masks.inputs import (
    describe_input,
    find_organs,
    invalidate_changed,
    pair_scans_and_masks,
    read_input_mask,
    refuse_overwriting_inputs,
)
from frugalseg.masks.output import MaskOutput
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.options import PromptableOptions, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import find_weights, load_promptable
from frugalseg.promptable.protocol import Promptable
from frugalseg.records.confidence import OrganCalibration, OrganConfidence
from frugalseg.records.predictions import CaseRecord, InputMask, PredictionRecord, PromptableUse, Refinement
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.calibration import find_calibrations
from frugalseg.refinement.refiner import Refiner

WORDS = Words("refinement", "refining", "refined", "refine")
VOXEL_BYTES = 10
"""Main memory for each voxel of a scan and its mask; measured."""
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


@dataclass(frozen=True, eq=False)
class RefineWork(MaskWork[Inputs]):
    """The refinement of one mask.

    Attributes:
        expected: which modality the scans are of.
        masks: case id → mask to refine.
        references: case id → reference to take the boxes from, with --oracle.
        wanted: of --target.
        source: the record of the masks.
    """

    options: RefineOptions
    expected: ExpectedModality
    masks: Mapping[str, Path]
    references: Mapping[str, Path]
    wanted: Targets
    source: PredictionRecord

    @cached_property
    def model(self) -> Promptable:
        """The model of this process; for its errors see `load_promptable`."""
        return load_promptable(self.options.model, find_device(self.options.device), self.options.precision)

    @cached_property
    def refiner(self) -> Refiner:
        """What refines with it."""
        return Refiner(self.model, self.options)

    @cached_property
    def calibrations(self) -> Mapping[str, OrganCalibration]:
        """Organ → calibration of the confidence in its masks."""
        return {} if self.references else find_calibrations(self.source, self.options, self.model.signature)

    def inputs(self) -> Iterable[Path]:
        """See `CaseWork.inputs`."""
        return (self.options.images, self.options.masks, find_weights(self.options.model))

    def set_up(self) -> None:
        """See `CaseWork.set_up`."""
        _ = self.refiner, self.calibrations

    def read(self, case: str, job: Path) -> Inputs:
        """The scan and its masks, on one grid."""
        volume = read_volume(job)
        self.expected.check(case, job, volume)
        reference = read_input_mask(case, volume, self.references[case]) if self.references else None
        scan = ScanSlices.of(volume, to_intensity_scale(self.options))
        return Inputs(volume, scan, read_input_mask(case, volume, self.masks[case]), reference)

    def make(self, case: str, source: Inputs) -> MadeMask:
        """The refined mask, and the confidence in it."""
        scan, given, reference = source.scan, source.given, source.reference
        organs = find_organs(given if reference is None else reference, self.wanted, self.source.targets)
        classes, others = _split_mask(scan, given, organs)
        prompting = None
        if reference is not None:
            prompting, others = to_classes(scan.stack(reference), organs), np.zeros_like(others)
        with progress(case, len(scan), "slices") as bar:
            names = dict(enumerate(organs, start=1))
            refined, counts = self.refiner.refine(scan, classes, prompting, self.options.cache, bar.advance, names)
        confidence = None if prompting is not None else _assess(refined, classes, organs, self.calibrations)
        known = self.source.select_case(case)  # `evaluate` needs it for refined masks too
        record = CaseRecord(
            role=known.role,
            annotated=known.annotated,
            given=self.describe_input(case),
            confidence=confidence,
            refinement=counts,
        )
        beside = {} if confidence is None else {f"{case}.slices.csv": format_slice_confidences(confidence)}
        mask = source.volume.with_array(scan.unstack(_join_masks(refined, others, organs)))
        made = MadeMask(mask, record, beside, MaskOutput.of(self.options, organs, WORDS.command))
        return describe(made, case, source.volume, to_intensity_scale(self.options), self.options.preview)

    def wanted_files(self, case: str) -> list[str]:
        """See `MaskWork.wanted_files`."""
        return list_previews(case, self.options.preview)

    def describe_input(self, case: str) -> InputMask:
        """The mask to refine, and its reference, as they are now."""
        return describe_input(self.masks[case], reference=self.references.get(case))


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
    with open_pool(options.ray, OneAfterAnother(), threads=options.threads) as pool:
        return _refine(options, pool)


def _refine(options: RefineOptions, pool: Pool) -> dict[str, Path]:
    device = find_device(options.device)
    images, masks = pair_scans_and_masks(options.images, options.masks, options.case, options.series)
    refuse_overwriting_inputs(masks, images, options.out, options.output_type)
    references = {} if options.oracle is None else _find_references(options, images)
    options, expected = resolve_intensity(options, images)
    wanted = parse_targets(options.target)
    source = PredictionRecord.read_beside(options.masks) or NO_RECORD
    work = RefineWork(options, expected, masks, references, wanted, source)
    folder = MaskFolder.claim(
        options, images, _make_record(options, images, work.model, source, wanted), RESUME_FIELDS, WORDS, (COARSE,)
    )
    invalidate_changed(folder, work.describe_input)
    _tell_memory(work.refiner, list(images.values()))
    _ = work.calibrations  # says what it lacks before the first scan
    try:
        written = folder.fill(work, describe_device(device), pool)
    finally:  # also where some scans failed
        write_scan_confidences(options.out, folder.record.confidence)
    _announce(folder.record.refinement, options, wanted)
    return written


def _tell_memory(refiner: Refiner, images: Collection[Path]) -> None:
    """Print how much memory the refinement of these scans needs, if it takes long.

    Not with a cache, which may hold every embedding already.
    """
    model, side, voxels = refiner.model, refiner.model.recipe.size, count_voxels(images)
    if refiner.options.cache is None and voxels * len(images) >= LONG_WORK:
        pixels = torch.zeros(1, 3, side, side, device=model.device)
        tensors = count_inference_bytes(lambda: model.encode(pixels), refiner.slices.size)
        tell_memory(tensors, model.device, voxels * VOXEL_BYTES)


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
    references = find_dataset(options.images, options.oracle, options.series)[1]
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
    irrelevant = {"images", "series", "out", "case", "target", "model", "device", "threads", "batch_size", "cache"}
    irrelevant |= {"overwrite", "resume", "ray", "output_type", "segment_codes", "preview"}
    relevant = {name: value for name, value in asdict(options).items() if name not in irrelevant | set(excluded)}
    settings: dict[str, object] = json.loads(json.dumps(relevant, default=str))
    return settings


def make_promptable_use(options: PromptableOptions, model: Promptable) -> PromptableUse:
    """The model, its recipe and the intensity scale, for predictions.json."""
    recipe = json.loads(json.dumps(asdict(model.recipe)))
    return PromptableUse(options.model, model.name, model.signature, recipe, to_intensity_scale(options))
