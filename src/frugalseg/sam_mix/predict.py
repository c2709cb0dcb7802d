"""`frugalseg sam-mix predict`: masks of whole scans, prompted by the classifier.

Reference masks are only read with `--oracle`, which the record states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg._version import __version__
from frugalseg.dataset.modality import expected_modality
from frugalseg.dataset.targets import Targets, to_classes, to_values
from frugalseg.engine.device import describe_device, find_device
from frugalseg.engine.files import check_out
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import PairingError
from frugalseg.imaging.find import check_distinct_files, find_dataset, find_masks
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.square import Square
from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.masks.components import BRIDGE_RADIUS, filter_components
from frugalseg.masks.describe import describe, list_previews
from frugalseg.masks.folder import MaskFolder, Words, select_cases
from frugalseg.masks.inputs import describe_input, invalidate_changed
from frugalseg.masks.output import MaskOutput
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.options import PredictOptions, SamMixPredictOptions
from frugalseg.records.predictions import CaseRecord, InputMask, PredictionRecord
from frugalseg.records.sam_mix import SamMixRecord
from frugalseg.sam_mix.checkpoint import load_mix, mix_weights_sha256
from frugalseg.sam_mix.model import MixModel, assign_classes
from frugalseg.sam_mix.prompts import boxes_of_masks
from frugalseg.sam_mix.scan import Images, Oracle, ScanSegmenter, SliceMasks
from frugalseg.segmentation.organ_dice import warn_before_prediction
from frugalseg.segmentation.predict import NOT_WRITTEN, Predictor, ReadScan, resolve_targets, written

BATCH = {"cpu": 4, "mps": 4, "cuda": 16}
WORDS = Words("prediction", "segmenting", "segmented", "predict")


@dataclass(frozen=True)
class ScanPrediction:
    """A scan's mask, and the classifier's probabilities.

    Attributes:
        mask: in the users' label values, on the scan's grid.
        present: (Z, K) probability of each organ in each slice, counted towards the head.
    """

    mask: Volume
    present: npt.NDArray[np.float32]


@dataclass(frozen=True)
class MixPredictor(Predictor):
    """A trained SAM-Mix with its pre- and post-processing; `network` is a `MixModel`.

    Attributes:
        trained: organ → label values of the training, which references hold.
        scan_boxes: for each organ whether it is segmented with boxes from the whole scan, see `ScanSegmenter`.
    """

    trained: Targets
    scan_boxes: tuple[bool, ...]

    @classmethod
    def from_options(cls, options: SamMixPredictOptions) -> MixPredictor:
        """Load the model of a run; raises `RunError`, `OptionError` or `DeviceError`."""
        record = SamMixRecord.read_run(options.model)
        device = find_device(options.device)
        targets = resolve_targets(record.targets, options.target)
        warn_before_prediction(record, written(targets))
        return cls(
            network=load_mix(options.model, record, options.base, device),
            device=device,
            targets=targets,
            intensity=record.preprocessing.intensity,
            expected=expected_modality(options.model, record.preprocessing, options.modality),
            size=record.preprocessing.size,
            context=0,
            keep=[record.keep[organ] if options.keep == "model" else options.keep for organ in record.targets],
            scans=(record.scans,),
            options=PredictOptions(
                model=options.model,
                images=options.images,
                out=options.out,
                batch_size=options.batch_size,
                precision=options.precision,
            ),
            calibrations={},
            trained=record.targets,
            scan_boxes=tuple(_has_scan_boxes(record, organ, options) for organ in record.targets),
        )

    def segment(self, volume: Volume) -> Volume:
        """The mask of a scan, in the users' label values and on the scan's grid."""
        return self.segment_with_presence(volume).mask

    def segment_with_presence(self, volume: Volume, oracle: Volume | None = None) -> ScanPrediction:
        """The mask of a scan, and the classifier's probabilities for its slices.

        Args:
            volume: the scan.
            oracle: its reference mask on the same grid, in the label values that are written, to take the boxes from.
        """
        upright, way = canonical(volume)
        stack = axial_slices(upright.array)
        limits = self.intensity.fit(upright.array, upright.padding)
        square = Square.fit(stack.shape[1:], (upright.spacing[1], upright.spacing[0]), self.size)
        reference = None
        if oracle is not None:
            read = {organ: () if values == NOT_WRITTEN else values for organ, values in self.targets.items()}
            reference = axial_slices(to_classes(way.apply(oracle).array, read))
        classes = np.empty(stack.shape, dtype=np.uint8)
        present = np.empty((len(stack), len(self.trained)), dtype=np.float32)

        def show(slices: Tensor) -> Tensor:
            shown = self.intensity.apply(stack[slices.numpy()], limits, upright.padding)
            return square.resize_images(torch.from_numpy(shown))[:, None].to(self.device)

        def boxes(slices: Tensor) -> tuple[Tensor, Tensor]:
            assert reference is not None
            return self._reference_boxes(square, reference[slices.numpy()])

        with progress("this scan", len(stack), "slices") as bar:
            for found in self._find_masks(show, len(stack), None if reference is None else boxes, bar.advance):
                chunk = found.slices.numpy()
                # One slice at a time: planes of full resolution would take more memory than the scan.
                full = [
                    assign_classes(square.restore(plane[None]), score[None])
                    for plane, score in zip(found.planes, found.scores, strict=True)
                ]
                classes[chunk] = torch.cat(full).cpu().numpy()
                present[chunk] = found.present.float().cpu().numpy()
        filter_components(classes, self.keep, reach=max(1, round(BRIDGE_RADIUS * max(stack.shape[1:]) / self.size)))
        mask = volume.with_array(to_values(way.undo(axial_slices(classes)), self.targets))
        return ScanPrediction(mask, present)

    def _find_masks(
        self, images: Images, depth: int, oracle: Oracle | None, advance: Callable[[int], None]
    ) -> Iterator[SliceMasks]:
        """The masks of a scan's slices, in order."""
        model = self.network
        assert isinstance(model, MixModel)
        at_once = self.options.batch_size or BATCH[self.device.type]
        segmenter = ScanSegmenter(model, self.options.precision, images, depth, at_once, advance=advance)
        if not any(self.scan_boxes):
            return segmenter.by_slice(oracle)
        return segmenter.with_scan_boxes(self.scan_boxes)

    def _reference_boxes(self, square: Square, reference: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, 4) around each organ of reference slices, and which of them there are (B, K)."""
        labels = square.resize_labels(torch.from_numpy(np.ascontiguousarray(reference)))
        boxes, there = zip(*(boxes_of_masks(labels == i + 1) for i in range(len(self.trained))), strict=True)
        return torch.stack(boxes, dim=1).to(self.device), torch.stack(there, dim=1).to(self.device)


def _has_scan_boxes(record: SamMixRecord, organ: str, options: SamMixPredictOptions) -> bool:
    """Whether an organ is segmented again with boxes from the scan's first masks; boxes of references are kept."""
    if options.oracle is not None:
        return False
    choice = options.scan_boxes
    return record.scan_boxes.get(organ, False) if choice == "model" else choice == "yes"


@dataclass(frozen=True, eq=False)
class MixWork(MaskWork[ReadScan]):
    """The segmentation of one scan.

    Attributes:
        references: case id → reference mask to take the boxes from, with `--oracle`.
    """

    options: SamMixPredictOptions
    references: Mapping[str, Path]

    @cached_property
    def predictor(self) -> MixPredictor:
        """The model of this process; for its errors see `MixPredictor.from_options`."""
        return MixPredictor.from_options(self.options)

    def inputs(self) -> Iterable[Path]:
        """See `CaseWork.inputs`."""
        return (self.options.images, self.options.model)

    def set_up(self) -> None:
        """See `CaseWork.set_up`."""
        _ = self.predictor

    def read(self, case: str, job: Path) -> ReadScan:
        """See `Predictor.read`."""
        return self.predictor.read(case, job)

    def make(self, case: str, source: ReadScan) -> MadeMask:
        """The mask, and the probability of each organ in each slice."""
        oracle = None
        if self.references:
            what, cure = ("reference", "scan"), "give the scan's own mask"
            oracle = read_labels_on(self.references[case], source.volume, case, what, cure)
        found = self.predictor.segment_with_presence(source.volume, oracle)
        present = {
            organ: tuple(round(float(p), 4) for p in found.present[:, i])
            for i, organ in enumerate(self.predictor.trained)
        }
        output = MaskOutput.of(self.options, written(self.predictor.targets), WORDS.command)
        given = self.describe_input(case) if self.references else None
        made = MadeMask(found.mask, CaseRecord(role=source.role, given=given, present=present), output=output)
        return describe(made, case, source.volume, self.predictor.intensity, self.options.preview)

    def wanted_files(self, case: str) -> list[str]:
        """See `MaskWork.wanted_files`."""
        return list_previews(case, self.options.preview)

    def describe_input(self, case: str) -> InputMask:
        """The reference mask of --oracle as it is now."""
        return describe_input(self.references[case])


@with_threads
def sam_mix_predict(options: SamMixPredictOptions) -> dict[str, Path]:
    """Segment every scan of `options.images`, or those of `options.case`; returns case id → mask.

    predictions.json also holds the probability of each organ in each slice of each scan.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError: the model is missing, the base model is not that of the training, `out` is in use or holds other
            predictions.
        OptionError: a `case` without an image, or a `target` that the model was not trained on.
        PairingError: `oracle` lacks the mask of a scan.
        DeviceError: there is no such GPU.
    """
    check_out(options.out)
    with open_pool(options.ray, OneAfterAnother(), threads=options.threads) as pool:
        return _predict(options, pool)


def _predict(options: SamMixPredictOptions, pool: Pool) -> dict[str, Path]:
    images = select_cases(find_dataset(options.images, None, options.series)[0], options.case, options.images)
    work = MixWork(options, {} if options.oracle is None else _find_references(options.oracle, images))
    predictor = work.predictor
    record = PredictionRecord(
        version=__version__,
        model=str(options.model.resolve()),
        weights_sha256=mix_weights_sha256(options.model),
        targets=written(predictor.targets),
        trained=predictor.trained,
        settings={
            "method": "SAM-Mix",
            "prompts": "classifier" if options.oracle is None else "oracle: boxes of the reference masks",
            "keep": dict(zip(predictor.targets, predictor.keep, strict=True)),
            "scan_boxes": dict(zip(predictor.targets, predictor.scan_boxes, strict=True)),
        },
        images={case: str(path.resolve()) for case, path in images.items()},
        roles={},
    )
    folder = MaskFolder.claim(options, images, record, ("model", "weights_sha256", "targets", "settings"), WORDS)
    if options.oracle is not None:
        say("oracle: prompts are boxes of the reference masks; these are not results of the method")
        invalidate_changed(folder, work.describe_input)
    return folder.fill(work, describe_device(predictor.device), pool)


def _find_references(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Case id → its reference mask."""
    found = find_masks(folder)
    check_distinct_files(images, found)
    if missing := [case for case in images if case not in found]:
        raise PairingError(f"--oracle {folder} holds no mask of {missing[0]}", "choose scans with masks by --case")
    return {case: found[case] for case in images}
