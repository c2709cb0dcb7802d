"""Labels of the training slices: manual masks, pseudo-labels of a model, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg.dataset.source import Slices, SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import autocast
from frugalseg.imaging.likeliest import likeliest, likeliest_with_margin
from frugalseg.masks.components import filter_components
from frugalseg.options import Keep, Precision
from frugalseg.records.model import PromptableModel
from frugalseg.segmentation.losses import add_background

SLICES_AT_ONCE = 32


class MaskRefiner(Protocol):
    """Refines masks that a model has predicted."""

    def __call__(self, case: str, rows: npt.NDArray[np.int64], classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Refined classes (Z, S, S) of the slices `rows` of one scan, from bottom to top."""

    @property
    def record(self) -> PromptableModel:
        """The model that refines them."""


@dataclass(frozen=True)
class UnlabelledSlices:
    """Slices whose masks may not be used, and pseudo-labels for them.

    Attributes:
        rows: (M,) rows of the store.
        classes: (M, S, S) uint8, predicted by a model, or propagated from outlined slices; None without pseudo-labels.
        confidence: (M, S, S) uint8, 0…255 for 0…1; None with `classes`.
        unknown: (M, C) bool, organs about which the pseudo-labels of a slice say nothing: the model has not learned
            them, or they were not outlined in its scan. None for no organ.
    """

    rows: npt.NDArray[np.int64]
    classes: Tensor | None = None
    confidence: Tensor | None = None
    unknown: Tensor | None = None

    def annotate(self, rows: Tensor, batch: Slices) -> Slices:
        """The batch of these rows with the masks that may be used: the store's with weight 1 for labelled slices;
        pseudo-labels weighted by their confidence for unlabelled ones, or weight 0 without pseudo-labels."""
        assert batch.labels is not None
        at = np.searchsorted(self.rows, rows.numpy())
        unlabelled = torch.from_numpy(self.rows[np.minimum(at, len(self.rows) - 1)] == rows.numpy())
        where, place = unlabelled.nonzero().flatten().to(batch.labels.device), torch.from_numpy(at)[unlabelled]
        labels, weights = batch.labels.clone(), torch.ones_like(batch.labels, dtype=torch.float32)
        if self.classes is None or self.confidence is None:
            labels[where], weights[where] = 0, 0.0
        else:
            labels[where] = self.classes[place].to(labels.device)
            weights[where] = self.confidence[place].to(labels.device) / 255
        unknown = None
        if self.unknown is not None and self.unknown.any():
            unknown = torch.zeros(len(rows), self.unknown.shape[1], dtype=torch.bool)
            unknown[unlabelled] = self.unknown[place]
            unknown = unknown.to(labels.device)
        return replace(batch, labels=labels, weights=weights, unknown=unknown)


@torch.inference_mode()
def make_pseudo_labels(
    model: nn.Module,
    store: SliceStore,
    source: SliceSource,
    rows: npt.NDArray[np.int64],
    labelled: npt.NDArray[np.int64],
    keep: Sequence[Keep],
    precision: Precision,
    folder: Path,
    refiner: MaskRefiner | None = None,
) -> UnlabelledSlices:
    """Pseudo-labels of these slices by a model, scan by scan.

    A pixel's confidence is the probability of its class minus that of the second best, in [0, 1]. Where
    `filter_components` or `refiner` changes the class, it is 1: these corrections are what the next model is to learn.

    Args:
        model: in evaluation mode, on the source's device.
        store, source: the data.
        rows: the slices to label, ascending.
        labelled: slices whose masks may be used: an organ of which the model finds no pixel there is unknown.
        keep: for each class what is kept of it in a scan (see `masks.components`).
        precision: arithmetic.
        folder: for the result, in a temporary file: it is as large as the store and may not fit in memory.
        refiner: refines the masks after `keep`.
    """
    classes, confidence = (make_disk_array((len(rows), store.size, store.size), folder) for _ in range(2))
    case = store.slices.loc[rows, "case"].to_numpy(str)
    for scan in np.unique(case):
        slices_of_scan = np.flatnonzero(case == scan)
        slices_of_scan = slices_of_scan[np.argsort(store.slices.loc[rows[slices_of_scan], "z"].to_numpy())]
        predicted, confident = _predict(model, source, torch.from_numpy(rows[slices_of_scan]), precision)
        cleaned = filter_components(predicted.copy(), keep)
        if refiner is not None:
            cleaned = refiner(str(scan), rows[slices_of_scan], cleaned)
        confident[cleaned != predicted] = 255
        classes[slices_of_scan], confidence[slices_of_scan] = cleaned, confident
    unlearned = find_unlearned(model, source, labelled, len(keep), precision)
    unknown = unlearned.repeat(len(rows), 1)
    return UnlabelledSlices(rows, torch.from_numpy(classes), torch.from_numpy(confidence), unknown)


@torch.inference_mode()
def find_unlearned(
    model: nn.Module, source: SliceSource, labelled: npt.NDArray[np.int64], organs: int, precision: Precision
) -> Tensor:
    """(C,) bool: the organs of which the model finds no pixel in the slices it was trained on."""
    found = torch.zeros(organs + 1, dtype=torch.bool)
    for chunk in torch.split(torch.tensor(labelled), SLICES_AT_ONCE):
        batch = source.gather(chunk)
        assert batch.labels is not None
        with autocast(precision, source.device):
            logits = add_background(model(*batch.inputs)).transpose(0, 1)
        predicted = likeliest(logits[0], logits[1:])
        found[torch.unique(predicted[predicted == batch.labels]).long().cpu()] = True
    return ~found[1:]


def make_disk_array(shape: tuple[int, ...], folder: Path) -> npt.NDArray[np.uint8]:
    """An array of zeros in a temporary file, which is deleted with the array."""
    with TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _predict(
    model: nn.Module, source: SliceSource, rows: Tensor, precision: Precision
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Classes and confidence (0…255) of these slices, each (Z, S, S)."""
    classes, confidence = [], []
    for chunk in torch.split(rows, SLICES_AT_ONCE):
        batch = source.gather(chunk)
        with autocast(precision, source.device):
            logits = model(*batch.inputs)
        found, margin = likeliest_with_margin(add_background(logits).softmax(dim=1).transpose(0, 1))
        found[batch.blank], margin[batch.blank] = 0, 1
        classes.append(found.cpu())
        confidence.append((margin * 255).round().to(torch.uint8).cpu())
    return torch.cat(classes).numpy(), torch.cat(confidence).numpy()
