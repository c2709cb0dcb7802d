"""How sure a model is of each slice, by its probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.confidence.calibration import expect
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import autocast, find_device
from frugalseg.engine.progress import progress
from frugalseg.errors import OptionError
from frugalseg.masks.components import filter_components
from frugalseg.models.saved import read_network_record
from frugalseg.options import SuggestOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation.losses import add_background
from frugalseg.segmentation.model import load_segmenter
from frugalseg.suggestion.candidates import Rows

SLICES_AT_ONCE = 32


@dataclass(frozen=True)
class Certainty:
    """A model's view of some slices.

    Attributes:
        errors: (R,) expected number of wrong pixels: the sum over pixels of one minus the highest probability.
        confidence: (R,) expected Dice of its mask, all organs together; NaN where neither mask nor probabilities
            amount to a pixel.
        areas: (R,) pixels of its mask, all organs together.
        masks: (R, S, S) bool, its masks, all organs together.
    """

    errors: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    areas: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class QueriedModel:
    """A fine-tuned model that fits a store.

    Attributes:
        run: its folder.
        record: its model.json.
    """

    run: Path
    record: SegmenterRecord

    @classmethod
    def open(cls, run: Path, store: SliceStore) -> QueriedModel:
        """Read the record of a model.

        Raises:
            RunError: no finished fine-tuning.
            OptionError: a model of other targets, or for slices of another size or intensity scaling.
        """
        record = read_network_record(SegmenterRecord, run)
        if store.targets and set(record.targets) != set(store.targets):
            raise OptionError(
                f"--model {run} segments {', '.join(record.targets)}, the store is for {', '.join(store.targets)}",
                "give a model of the same targets",
            )
        own, wanted = record.preprocessing, store.preprocessing
        if (own.size, own.intensity) != (wanted.size, wanted.intensity):
            raise OptionError(
                f"--model {run} was trained on slices of {own.size} pixels, {own.intensity}; {store.folder} has "
                f"{wanted.size} pixels, {wanted.intensity}",
                "give a model that was trained on a store prepared with the same size and window",
            )
        return cls(run, record)

    def _calibrate(self, dice: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The Dice that such slices had on the validation patients, the mean over the organs; unchanged without
        calibration."""
        promises = [known.slices for known in self.record.calibration.get("probabilities", {}).values()]
        if not promises:
            return dice
        expected: npt.NDArray[np.float64] = np.mean([expect(dice, promise) for promise in promises], axis=0)
        return expected

    def _post_process(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The classes (Z, S, S) of a whole scan with the post-processing that was chosen on the validation patients."""
        return filter_components(classes, [self.record.keep[organ] for organ in self.record.targets])

    def measure(self, store: SliceStore, rows: Rows, options: SuggestOptions) -> Certainty:
        """Predict the slices `rows` of the store; no label is read.

        The expected Dice of a mask M under pixel probabilities p is about 2 Σ_M p / (Σ p + |M|); it is corrected by the
        model's calibration, if it has one (see `frugalseg.confidence`). For a mask, where the slices are a whole scan,
        masks and areas are post-processed.
        """
        device = find_device(options.device)
        network = load_segmenter(self.run, self.record, device, options.precision)
        source = SliceSource(store, device, with_labels=False, rows=rows, context=self.record.context)
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        with torch.inference_mode(), progress("predicting", len(rows), "slices") as bar:
            for batch in source.stream(torch.split(torch.from_numpy(rows), SLICES_AT_ONCE)):
                with autocast(options.precision, device):
                    logits = network(*batch.inputs)
                sure = add_background(logits).softmax(dim=1)
                best = sure.max(dim=1)
                mask = best.indices > 0
                inside = (best.values * mask).sum(dim=(1, 2))
                total = sure[:, 1:].sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2))
                figures = ((1 - best.values).sum(dim=(1, 2)), inside, total, best.indices.to(torch.uint8))
                parts.append(tuple(figure.cpu().numpy() for figure in figures))
                bar.advance(len(mask))
        errors, inside_sum, total_sum, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
        if options.for_ == "mask":  # else the slices are parts of many scans
            classes = self._post_process(classes)
        masks = classes > 0
        dice = np.where(total_sum >= 1, 2 * inside_sum / np.maximum(total_sum, 1), np.nan)
        dice = self._calibrate(dice)
        return Certainty(errors.astype(np.float64), dice.astype(np.float64), masks.sum(axis=(1, 2)), masks)
