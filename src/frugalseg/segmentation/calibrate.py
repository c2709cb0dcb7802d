"""Calibrate a model's confidence on its validation patients, at the store's resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from frugalseg.confidence.calibration import ScoredMask, calibrate
from frugalseg.confidence.soft_mask import SoftMask, SoftSlices
from frugalseg.engine.device import autocast
from frugalseg.engine.progress import progress
from frugalseg.options import Keep
from frugalseg.records.confidence import OrganCalibration
from frugalseg.segmentation.losses import probabilities
from frugalseg.segmentation.validate import SLICES_AT_ONCE, ValidationSet


def calibrate_predictions(
    validation: ValidationSet, model: nn.Module, keep: Mapping[str, Keep]
) -> dict[str, OrganCalibration]:
    """Organ → calibration of the confidence in its masks; without organs that no mask shows.

    Args:
        validation: the volumes of the validation patients.
        model: in evaluation mode, on their device.
        keep: organ → post-processing of its masks.
    """
    masks: dict[str, list[ScoredMask]] = {organ: [] for organ in keep}
    with progress("calibrating the confidence", len(validation.cases), "scans") as bar:
        for case in validation.cases:
            patient = str(validation.store.slices.at[int(validation.cases[case][0]), "patient"])
            soft, reference = _predict(validation, model, case, list(keep.values()))
            pairs = zip(soft.overlaps_with_probabilities(), soft.overlaps_with(reference), strict=True)
            for organ, (own, true) in zip(keep, pairs, strict=True):
                masks[organ].append(ScoredMask(patient, own, true))
            bar.advance()
    found = {organ: calibrate(masks[organ], kept) for organ, kept in keep.items()}
    return {organ: calibration for organ, calibration in found.items() if calibration is not None}


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
            logits = model(batch.images)
        soft.append(SoftSlices.of(probabilities(logits)))
        reference.append(batch.labels.cpu().numpy())
    return SoftMask.join(soft, keep), np.concatenate(reference)
