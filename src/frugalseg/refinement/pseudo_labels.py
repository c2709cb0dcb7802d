"""Pseudo-labels refined by a promptable model, for self-training.

A model trained on few masks finds an organ more reliably than its border; a promptable model finds the border, but not
the organ. So each part of a pseudo-label prompts the promptable model with a box, and the next model learns from the
masks it returns. This is ours: PolyCL refines masks of test scans, so it needs SAM for prediction; here the promptable
model is needed for training only.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.store import SliceStore
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume, axial_slices
from frugalseg.options import Precision, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import load_promptable
from frugalseg.promptable.protocol import Promptable
from frugalseg.records.model import PromptableModel
from frugalseg.records.store import ScanEntry
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.refiner import Refiner

AS_STORED = IntensityScale("ct", 0.0, 1.0)
"""The images of a store are already in [0, 1]."""


def open_stored_scan(store: SliceStore, scan: ScanEntry, rows: npt.NDArray[np.int64]) -> ScanSlices:
    """The slices `rows` of one scan of the store, inferior first, as those of a scan in the store's grid."""
    images = axial_slices(np.asarray(store.images[rows], dtype=np.float32))
    affine = np.diag([-scan.column_mm, -scan.row_mm, scan.z_mm, 1.0])  # axes to left, posterior, superior
    return ScanSlices.of(Volume(images, affine), AS_STORED)


class RefiningOptions(Protocol):
    """Options of a command that refines masks of a store."""

    @property
    def refine(self) -> str | None:
        """The promptable model."""

    @property
    def device(self) -> str:
        """Where to compute, as given."""

    @property
    def precision(self) -> Precision:
        """Floating-point precision."""


class PseudoLabelRefiner:
    """Refines masks of a store's slices, as `frugalseg refine` does with its defaults.

    Args:
        store: the slices.
        options: of the command; `refine` names the promptable model, which is loaded at first use.
        device: where to compute.
    """

    def __init__(self, store: SliceStore, options: RefiningOptions, device: torch.device) -> None:
        self.store, self.options, self.device = store, options, device
        self.scans = {scan.case: scan for scan in store.record.scans}

    @cached_property
    def model(self) -> Promptable:
        """The promptable model."""
        assert self.options.refine is not None
        return load_promptable(self.options.refine, self.device, self.options.precision)

    def __call__(self, case: str, rows: npt.NDArray[np.int64], classes: Classes) -> Classes:
        """Refine the classes (Z, S, S) of slices of one scan; `rows` are their rows in the store, inferior first."""
        slices = open_stored_scan(self.store, self.scans[case], rows)
        folder = self.store.folder
        wanted = RefineOptions(images=folder, masks=folder, out=folder, device=self.options.device)
        return Refiner(self.model, wanted).refine(slices, classes)[0]

    @property
    def record(self) -> PromptableModel:
        """The promptable model, for the record."""
        assert self.options.refine is not None
        return PromptableModel(self.options.refine, self.model.name, self.model.signature)
