"""`frugalseg predict`: masks of whole scans, each in its scan's own grid.

Slices stream through the network in batches, and the next scan is read meanwhile, so memory holds two scans, two masks
and one batch. No reference mask is read anywhere on this path.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from frugalseg._version import __version__
from frugalseg.confidence.assess import assess
from frugalseg.confidence.select import RANK_ONLY, select_calibrations
from frugalseg.confidence.soft_mask import SoftMask, SoftSlices
from frugalseg.confidence.table import format_slice_confidences, write_scan_confidences
from frugalseg.dataset.blank import find_blank
from frugalseg.dataset.modality import ExpectedModality, expected_modality
from frugalseg.dataset.targets import Targets, parse_targets, to_values
from frugalseg.engine.device import autocast, describe_device, find_device, to_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.memory_estimate import count_inference_bytes, tell_memory
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.errors import OptionError
from frugalseg.imaging.extent import LONG_WORK, count_voxels
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.square import Square
from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.masks.components import BRIDGE_RADIUS, filter_components
from frugalseg.masks.describe import describe, list_previews
from frugalseg.masks.folder import MaskFolder, Words, select_cases
from frugalseg.masks.output import MaskOutput
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.models.registry import input_channels
from frugalseg.models.saved import WEIGHTS
from frugalseg.options import Keep, PredictOptions
from frugalseg.records.confidence import OrganCalibration, OrganConfidence
from frugalseg.records.model import ScanRole
from frugalseg.records.predictions import CaseRecord, PredictionRecord
from frugalseg.segmentation.ensemble import Ensemble, Member, closest_role
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.organ_dice import warn_before_prediction
from frugalseg.segmentation.probability_maps import ProbabilityMaps, list_maps
from frugalseg.segmentation.record import find_role
from frugalseg.segmentation.views import View, average_over, list_views

NOT_WRITTEN = (0,)
VOXEL_BYTES = 8
"""Main memory for each voxel of a scan: two scans of 16 bits, the classes twice, and the mask; measured."""
WORDS = Words("prediction", "segmenting", "segmented", "predict")


class ReadScan(NamedTuple):
    """A scan, and its role (see `Predictor.role`)."""

    volume: Volume
    role: str


class SegmentedScan(NamedTuple):
    """The mask of a scan, in the users' label values and on the scan's grid, the confidence in each organ's, and the
    probabilities of every voxel where they are kept."""

    mask: Volume
    confidence: dict[str, OrganConfidence]
    maps: ProbabilityMaps | None


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything that must happen before and after it.

    Attributes:
        network: the segmenter, on its device, in evaluation mode.
        targets: organ → label values, in the order of the classes; 0 for an organ that is not written.
        expected: which modality scans are to be of.
        context: neighbouring slices on each side that the network sees.
        keep: for each class what is kept of its mask (see `masks.components`).
        scans: case, fingerprint and role of each scan of the model's data set; for each model that is averaged.
        calibrations: organ → calibration of the confidence in its masks, where there is one that applies.
    """

    network: nn.Module
    device: torch.device
    targets: Targets
    intensity: IntensityScale
    expected: ExpectedModality
    size: int
    context: int
    keep: list[Keep]
    scans: tuple[tuple[ScanRole, ...], ...]
    options: PredictOptions
    calibrations: Mapping[str, OrganCalibration]

    @classmethod
    def load(cls, options: PredictOptions) -> Predictor:
        """Load the model of a fine-tuning run, and those to average it with.

        Warns of organs that a model has not learned.

        Raises:
            RunError, DeviceError: see `frugalseg.errors`.
            OptionError: also where the models were trained on different organs or slices.
        """
        members = [Member.read(run) for run in options.runs]
        for member in members[1:]:
            member.check_alike(members[0])
        record = members[0].record
        device = find_device(options.device)
        targets = resolve_targets(record.targets, options.target)
        for member in members:
            warn_before_prediction(member.record, written(targets))
        keep = {o: record.keep[o] if options.keep == "model" else options.keep for o in record.targets}
        averaged = len(list_views(options.tta, options.tta_degrees)) > 1
        contexts = [member.record.context for member in members]
        return cls(
            network=_load_network(members, device, options),
            device=device,
            targets=targets,
            intensity=record.preprocessing.intensity,
            expected=expected_modality(members[0].run, record.preprocessing, options.modality),
            size=record.preprocessing.size,
            context=max(contexts),
            keep=list(keep.values()),
            scans=tuple(member.record.scans for member in members),
            options=options,
            calibrations=_find_calibrations(members, {o: keep[o] for o in written(targets)}, averaged),
        )

    def read(self, case: str, path: Path) -> ReadScan:
        """A scan and what the model saw of it.

        Raises:
            ScanError: it cannot be read, or is of another modality than the model's.
        """
        volume = read_volume(path)
        self.expected.check(case, path, volume)
        return ReadScan(volume, self.role(case, volume))

    def segment(self, volume: Volume) -> Volume:
        """The mask of a scan, in the users' label values and on the scan's grid."""
        return self.segment_with_confidence(volume).mask

    def segment_with_confidence(self, volume: Volume, maps: bool = False) -> SegmentedScan:
        """The mask of a scan, and the confidence in it, which is computed at the model's resolution.

        Args:
            volume: the scan.
            maps: whether to keep the probabilities of every voxel.
        """
        upright, way = canonical(volume)
        stack = axial_slices(upright.array)
        limits = self.intensity.fit(upright.array, upright.padding)
        square = Square.fit(stack.shape[1:], (upright.spacing[1], upright.spacing[0]), self.size)
        # On the device, to be fetched once: a GPU then never waits while the next slices are resized.
        found = torch.empty(stack.shape, dtype=torch.uint8, device=self.device)
        soft = []
        kept = ProbabilityMaps(len(self.targets), stack.shape) if maps else None
        at_once = self.options.batch_size or slices_at_once(self.device, self.size)
        with progress("this scan", len(stack), "slices") as bar:
            for z in range(0, len(stack), at_once):
                chunk = slice(z, z + at_once)
                seen = np.arange(z - self.context, min(z + at_once, len(stack)) + self.context).clip(0, len(stack) - 1)
                images = torch.from_numpy(self.intensity.apply(stack[seen], limits, upright.padding))
                seen_by_network = square.resize_images(images).unfold(0, input_channels(self.context), 1)
                mean = self._probabilities(seen_by_network)
                found[chunk] = square.classes(mean)
                soft.append(SoftSlices.of(mean))
                if kept is not None:
                    kept.add(chunk, square.restore(mean))
                bar.advance(len(found[chunk]))
        classes = found.cpu().numpy()
        filter_components(classes, self.keep, reach=max(1, round(BRIDGE_RADIUS * max(stack.shape[1:]) / self.size)))
        mask = volume.with_array(to_values(way.undo(axial_slices(classes)), self.targets))
        return SegmentedScan(mask, self._assess(SoftMask.join(soft, self.keep)), kept)

    def _assess(self, soft: SoftMask) -> dict[str, OrganConfidence]:
        """Organ → the confidence in its mask, of those that are written and that the scan shows."""
        overlaps = dict(zip(self.targets, soft.overlaps_with_probabilities(), strict=True))
        assessed = {o: assess(overlaps[o], "probabilities", self.calibrations.get(o)) for o in written(self.targets)}
        return {organ: confidence for organ, confidence in assessed.items() if confidence is not None}

    def role(self, case: str, volume: Volume) -> str:
        """What the models saw of this scan (see `record.find_role`)."""
        key = fingerprint(canonical(volume)[0])
        found = [find_role(scans, case, key) for scans in self.scans]
        role = closest_role([one for one, _ in found])
        if any(by_name for _, by_name in found):
            warnings.warn(
                f"{case} has the name of a scan of the model's data set but other voxels; it is counted as "
                f"{role!r}. Rename it if it is another patient's",
                stacklevel=2,
            )
        return role

    @cached_property
    def views(self) -> list[View]:
        """The views of a slice that are averaged."""
        return list_views(self.options.tta, self.options.tta_degrees)

    def tell_memory(self, images: Collection[Path]) -> None:
        """Print how much memory the segmentation of these scans needs, if it takes long."""
        voxels = count_voxels(images)
        if voxels * len(images) < LONG_WORK:
            return
        slice_ = torch.zeros(1, self.size, self.size, input_channels(self.context))
        tensors = count_inference_bytes(
            lambda: self._probabilities(slice_), self.options.batch_size or slices_at_once(self.device, self.size)
        )
        maps = len(self.targets) + 1 if self.options.probabilities else 0
        tell_memory(tensors, self.device, voxels * (VOXEL_BYTES + maps))

    @torch.inference_mode()
    def _probabilities(self, images: Tensor) -> Tensor:
        """Square slices with their neighbours, (N, S, S, 2·context + 1) → probabilities of the classes (N, C, S, S)."""
        shown = to_device(images.movedim(-1, 1).contiguous(), self.device)
        with autocast(self.options.precision, self.device):
            mean = average_over(self.views, self.network, shown)
        mean[find_blank(shown[:, self.context])] = 0
        return mean


def slices_at_once(device: torch.device, size: int) -> int:
    """Slices of size² pixels in a batch: on a CPU more only take memory, a GPU gets as many pixels at every size."""
    return 4 if device.type == "cpu" else max(1, 32 * 256**2 // size**2)


def _load_network(members: Sequence[Member], device: torch.device, options: PredictOptions) -> nn.Module:
    """The network of the only model, or the mean of several.

    --backbone and --cache are for those with a frozen encoder; without any, the first model refuses them.
    """
    frozen = [member.record.frozen_encoder is not None for member in members]
    own = [(options.backbone, options.cache) if has or not any(frozen) else (None, None) for has in frozen]
    networks = [
        load_segmenter(member.run, member.record, device, options.precision, *given)
        for member, given in zip(members, own, strict=True)
    ]
    if len(networks) == 1:
        return networks[0]
    return Ensemble(networks, [member.record.context for member in members]).eval()


def _find_calibrations(
    members: Sequence[Member], keep: Mapping[str, Keep], averaged: bool
) -> dict[str, OrganCalibration]:
    """Organ → calibration of the confidence in its masks; none for a mean of several models, which is told once."""
    if len(members) > 1:
        say(f"the mean of several models is not calibrated: {RANK_ONLY}")
        return {}
    return select_calibrations(members[0].record.calibration.get("probabilities", {}), keep, averaged)


def resolve_targets(trained: Targets, wanted: list[str]) -> Targets:
    """Organ → the values it is written with, in the order of the classes.

    Raises:
        OptionError: an organ is wanted that the model does not know.
    """
    if not wanted:
        return trained
    given = parse_targets(wanted)
    if unknown := [name for name in given if name not in trained]:
        raise OptionError(f"--target {unknown[0]}: the model was not trained on it", f"choose of: {', '.join(trained)}")
    return {name: given.get(name, NOT_WRITTEN) for name in trained}


def written(targets: Targets) -> Targets:
    """Those organs of `resolve_targets` that are written."""
    return {name: values for name, values in targets.items() if values != NOT_WRITTEN}


def _to_settings(options: PredictOptions, predictor: Predictor) -> dict[str, object]:
    settings: dict[str, object] = {
        "flips": options.tta,
        "keep": dict(zip(predictor.targets, predictor.keep, strict=True)),
    }
    if options.runs[1:]:
        settings["average_with"] = [Member.read(run).weights_sha256 for run in options.runs[1:]]
    if options.tta_degrees is not None:
        settings["degrees"] = options.tta_degrees
    return settings


@dataclass(frozen=True, eq=False)
class SegmentWork(MaskWork[ReadScan]):
    """The segmentation of one scan."""

    options: PredictOptions

    @cached_property
    def predictor(self) -> Predictor:
        """The model of this process; for its errors see `Predictor.load`."""
        return Predictor.load(self.options)

    def inputs(self) -> Iterable[Path]:
        """See `CaseWork.inputs`."""
        return (self.options.images, *self.options.runs)

    def set_up(self) -> None:
        """See `CaseWork.set_up`."""
        _ = self.predictor

    def read(self, case: str, job: Path) -> ReadScan:
        """See `Predictor.read`."""
        return self.predictor.read(case, job)

    def make(self, case: str, source: ReadScan) -> MadeMask:
        """The mask, and the confidence in it."""
        mask, confidence, maps = self.predictor.segment_with_confidence(source.volume, self.options.probabilities)
        record = CaseRecord(role=source.role, confidence=confidence)
        output = MaskOutput.of(self.options, written(self.predictor.targets), WORDS.command)
        beside: dict[str, str | bytes] = {f"{case}.slices.csv": format_slice_confidences(confidence)}
        if maps is not None:
            own = [values != NOT_WRITTEN for values in self.predictor.targets.values()]
            way = canonical(source.volume)[1]
            beside |= maps.to_files(case, list(self.predictor.targets), own, source.volume, way)
        made = MadeMask(mask, record, beside, output)
        return describe(made, case, source.volume, self.predictor.intensity, self.options.preview)

    def wanted_files(self, case: str) -> list[str]:
        """See `MaskWork.wanted_files`."""
        organs = list(written(self.predictor.targets)) if self.options.probabilities else []
        return [*list_previews(case, self.options.preview), *list_maps(case, organs)]


def segment_scans(options: PredictOptions) -> dict[str, Path]:
    """Segment every scan of `options.images`, or those of `options.case`; returns case id → mask.

    A scan that cannot be read or segmented, or is of another modality than the model's, is reported and left out, the
    others are done.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError: the model is not there, `out` is in use, or holds no prediction of this model to resume.
        OptionError: a `case` that is none of the images, a `target` that the model does not know, or models to average
            that were trained on different organs or slices.
        DeviceError: the GPU asked for is not there.
    """
    assert options.refine is None, "refined masks are made by frugalseg.commands.predict"
    check_out(options.out)
    with open_pool(options.ray, OneAfterAnother(), threads=options.threads) as pool:
        return _segment_scans(options, pool)


def _segment_scans(options: PredictOptions, pool: Pool) -> dict[str, Path]:
    work = SegmentWork(options)
    predictor = work.predictor
    images = select_cases(find_dataset(options.images, None, options.series)[0], options.case, options.images)
    record = PredictionRecord(
        version=__version__,
        model=str(options.runs[0].resolve()),
        weights_sha256=sha256(options.runs[0] / WEIGHTS),
        targets=written(predictor.targets),
        settings=_to_settings(options, predictor),
        images={case: str(path.resolve()) for case, path in images.items()},
        roles={},
    )
    folder = MaskFolder.claim(options, images, record, ("model", "weights_sha256", "targets", "settings"), WORDS)
    predictor.tell_memory(list(images.values()))
    try:
        return folder.fill(work, describe_device(predictor.device), pool)
    finally:  # also where some scans failed
        write_scan_confidences(options.out, folder.record.confidence)
