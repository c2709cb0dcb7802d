"""Calibrate a model's confidence on its validation patients, at the store's resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from frugalseg.confidence.calibration import ScoredMask, calibrate
from frugalseg.confidence.overlap import Overlap, compare
from frugalseg.confidence.soft_mask import SoftMask, SoftSlices
from frugalseg.engine.device import autocast
from frugalseg.engine.progress import progress
from frugalseg.options import Keep
from frugalseg.records.confidence import ConfidenceSource, OrganCalibration
from frugalseg.segmentation.losses import probabilities
from frugalseg.segmentation.pseudo import MaskRefiner
from frugalseg.segmentation.validate import SLICES_AT_ONCE, ValidationSet

Calibrations = dict[ConfidenceSource, dict[str, OrganCalibration]]
"""What confidence is computed from → organ → its calibration; without organs that no mask shows."""


def calibrate_model(
    validation: ValidationSet, model: nn.Module, keep: Mapping[str, Keep], refiner: MaskRefiner | None = None
) -> Calibrations:
    """Calibrate the confidence in a model's masks, and in refined ones; see `score_scans`."""
    found: Calibrations = {}
    for source, masks in score_scans(validation, model, keep, refiner).items():
        refined_by = refiner.record.signature if refiner is not None and source == "agreement" else None
        learned = {organ: calibrate(masks[organ], kept) for organ, kept in keep.items()}
        found[source] = {o: replace(own, refined_by=refined_by) for o, own in learned.items() if own is not None}
    return found


def score_scans(
    validation: ValidationSet, model: nn.Module, keep: Mapping[str, Keep], refiner: MaskRefiner | None = None
) -> dict[ConfidenceSource, dict[str, list[ScoredMask]]]:
    """What confidence is computed from → organ → its mask in each scan, with confidence and Dice.

    Args:
        validation: the volumes to learn from; of those with labels of some slices only, no Dice is known.
        model: in evaluation mode, on their device.
        keep: organ → post-processing of its masks.
        refiner: refines the masks after `keep`; None: there are only the model's own masks.
    """
    sources: tuple[ConfidenceSource, ...] = ("probabilities",) if refiner is None else ("probabilities", "agreement")
    scored: dict[ConfidenceSource, dict[str, list[ScoredMask]]] = {s: {organ: [] for organ in keep} for s in sources}
    whole = validation.find_whole_cases()
    with progress("calibrating the confidence", len(whole), "scans") as bar:
        for case in whole:
            rows = validation.cases[case]
            patient = str(validation.store.slices.at[int(rows[0]), "patient"])
            soft, reference = _predict(validation, model, case, list(keep.values()))
            _add(scored["probabilities"], patient, soft.overlaps_with_probabilities(), soft.overlaps_with(reference))
            if refiner is not None:
                masks = refiner(case, rows.numpy(), soft.classes)
                own, true = (compare(masks, other, len(keep)) for other in (soft.classes, reference))
                _add(scored["agreement"], patient, own, true)
            bar.advance()
    return scored


def _add(scored: Mapping[str, list[ScoredMask]], patient: str, own: Sequence[Overlap], true: Sequence[Overlap]) -> None:
    for masks, pair in zip(scored.values(), zip(own, true, strict=True), strict=True):
        masks.append(ScoredMask(patient, *pair))


@torch.inference_mode()
def _predict(
    validation: ValidationSet, model: nn.Module, case: str, keep: Sequence[Keep]
) -> tuple[SoftMask, npt.NDArray[np.uint8]]:
    """A scan's mask with its probabilities, and its reference (Z, S, S)."""
    soft, reference = [], []
    for rows in torch.split(validation.cases[case], SLICES_AT_ONCE):
        batch = validation.source.gather(rows)
        assert batch.labels is not None
        with autocast(validation.precision, validation.source.device):
            logits = model(*batch.inputs)
        found = probabilities(logits)
        found[batch.blank] = 0
        soft.append(SoftSlices.of(found))
        reference.append(batch.labels.cpu().numpy())
    return SoftMask.join(soft, keep), np.concatenate(reference)
