"""Outlined slices of a store propagated through their scans, as pseudo-labels for fine-tuning.

An outlined slice takes a person a minute, an outlined scan an hour. Propagation makes an approximate scan of a slice;
its errors are bounded by the weight of each pixel, the confidence of the propagation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.store import SliceStore
from frugalseg.engine.progress import progress
from frugalseg.masks.components import Bools
from frugalseg.options import Precision, PropagateOptions
from frugalseg.propagation.engines import load_engine
from frugalseg.propagation.passes import Figures
from frugalseg.propagation.review import PROPAGATED, ReviewRow
from frugalseg.propagation.task import PropagationTask, assemble_mask, prepare_folder, run_passes
from frugalseg.records.model import PromptableModel
from frugalseg.refinement.boxes import Classes
from frugalseg.refinement.pseudo_labels import open_stored_scan


class PropagatingOptions(Protocol):
    """Options of a command that propagates outlined slices of a store."""

    @property
    def propagate(self) -> str | None:
        """The promptable model."""

    @property
    def engine(self) -> Literal["box", "sam2"]:
        """How it propagates, see `options.propagate`."""

    @property
    def device(self) -> str:
        """Where to compute, as given."""

    @property
    def precision(self) -> Precision:
        """Floating-point precision."""


class OutlinePropagator:
    """Propagates outlined slices of a store through their scans, as `frugalseg propagate` does with its defaults.

    Args:
        store: the slices.
        options: of the command; `propagate` names the promptable model, which is loaded now.
        device: where to compute.
        cache: folder of image embeddings.

    Attributes:
        record: the promptable model.

    Raises:
        OptionError, RunError: there is no such model, or it is not of the kind that the engine needs.
    """

    def __init__(self, store: SliceStore, options: PropagatingOptions, device: torch.device, cache: Path) -> None:
        assert options.propagate is not None
        self.store, self.organs = store, store.targets
        self.scans = {scan.case: scan for scan in store.record.scans}
        folder = store.folder
        self.options = PropagateOptions(
            images=folder,
            annotations=folder,
            out=folder,
            model=options.propagate,
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            cache=cache if options.engine == "box" else None,  # a memory cannot be cached
        )
        self.engine, model = load_engine(self.options, device)
        self.record = PromptableModel(options.propagate, model.name, model.signature)

    def __call__(
        self, case: str, rows: npt.NDArray[np.int64], outlines: Mapping[int, Classes], folder: Path
    ) -> tuple[Classes, npt.NDArray[np.uint8], Bools]:
        """Propagate the outlined slices of one scan.

        A pixel of two organs belongs to that of which the propagation is surer. Beyond slices outlined as empty there
        is only background.

        Args:
            case: id of the scan.
            rows: (Z,) rows of its slices in the store, inferior first.
            outlines: position in `rows` → (S, S) classes of an outlined slice; at least one shows an organ.
            folder: for the slices that the propagation has reached: an interrupted one continues there, exactly.

        Returns:
            (Z, S, S) classes; (Z, S, S) confidence in them, 0…255 for 0…1, of the unlabelled slices; and (C,) the
            organs about which they say nothing: not outlined in this scan, or not found in any other slice.
        """
        task = self._make_task(case, rows, outlines)
        settings = [self.options.engine, self.options.margin_mm, self.options.candidates, self.options.min_overlap]
        outlined = {z: hashlib.sha256(np.packbits(masks).tobytes()).hexdigest() for z, masks in task.objects.items()}
        signature = [self.record.signature, settings, list(self.organs), task.scan.fingerprint, outlined]
        prepare_folder(folder, signature, task.first, task.last)
        with progress(case, sum(len(pass_.order) for pass_ in task.passes), "slices") as bar:
            run_passes(self.engine, task, folder, bar.advance)
        classes, reviewed = assemble_mask(task, folder, self.options.review_below)
        confidence, known = assess_slices(reviewed, list(self.organs), len(rows))
        return classes, weigh_pixels(classes, confidence, known), ~known

    def _make_task(self, case: str, rows: npt.NDArray[np.int64], outlines: Mapping[int, Classes]) -> PropagationTask:
        """The task; slices outlined as empty propagate nothing, and bound it."""
        numbers = np.arange(1, len(self.organs) + 1)[:, None, None]
        objects = {z: classes == numbers for z, classes in outlines.items() if classes.any()}
        empty = [z for z in outlines if z not in objects]
        first = max((z + 1 for z in empty if z < min(objects)), default=0)
        last = min((z - 1 for z in empty if z > max(objects)), default=len(rows) - 1)
        return PropagationTask(open_stored_scan(self.store, self.scans[case], rows), self.organs, objects, first, last)


def assess_slices(rows: Sequence[ReviewRow], organs: Sequence[str], depth: int) -> tuple[Figures, Bools]:
    """The confidence in each slice's mask of each organ, whether it shows the organ or not.

    A slice beyond an organ's end is background because the propagation ended there: its confidence is that of the
    nearest propagated slice that shows the organ.

    Args:
        rows: of the propagated slices.
        organs: the K organs.
        depth: Z, the number of slices.

    Returns:
        (Z, K) confidence, 0…1, and (K,) whether an organ was propagated to any slice; if not, its confidence is 0.
    """
    confidence, known = np.zeros((depth, len(organs))), np.zeros(len(organs), bool)
    for k, organ in enumerate(organs):
        shown = {row.slice: row.confidence for row in rows if row.organ == organ and row.source == PROPAGATED}
        if shown:
            known[k] = True
            nearest = np.abs(np.arange(depth)[:, None] - np.array(list(shown))).argmin(axis=1)
            confidence[:, k] = np.array(list(shown.values()))[nearest]
    return confidence, known


def weigh_pixels(classes: Classes, confidence: Figures, known: Bools) -> npt.NDArray[np.uint8]:
    """The confidence of each pixel (Z, S, S), 0…255 for 0…1: that of its organ; of background the mean of all organs.

    Args:
        classes: (Z, S, S).
        confidence: (Z, K) of each organ, 0…1; 0 where it is not known.
        known: (K,) whether it is.
    """
    background = confidence.sum(axis=1) / max(int(known.sum()), 1)
    of_class = (np.column_stack([background, confidence]) * 255).round().astype(np.uint8)
    weights: npt.NDArray[np.uint8] = of_class[np.arange(len(classes))[:, None, None], classes]
    return weights
