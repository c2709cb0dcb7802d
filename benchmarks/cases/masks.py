"""From a model to masks, and from masks to metrics."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import frugalseg
from frugalseg.options import EvaluateOptions, PredictOptions
from inputs import LIVER, ORGANS, large_scan, model
from measure import OURS, Case, Setting, Work, timed

TOLERANCE = 3.0


def predict(setting: Setting, target: list[str]) -> Work:
    """A phantom with a model that found organs, roughly."""
    trained, scan = model(setting, target), large_scan(setting)

    def run() -> None:
        frugalseg.predict(
            PredictOptions(model=trained, images=scan.images, out=setting.empty("masks"), device=setting.device)
        )

    return timed(run)


def shift_labels(path: Path, labels: Path) -> None:
    """The same labels three voxels further left, as a prediction."""
    import nibabel as nib

    path.mkdir()
    for file in labels.glob("*.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 3, axis=0), image.affine), path / file.name)


def evaluate(setting: Setting) -> Work:
    references = large_scan(setting).labels
    predictions = setting.once("shifted", partial(shift_labels, labels=references))
    given = {"predictions": predictions, "references": references, "target": [LIVER], "report": False}
    return timed(lambda: frugalseg.evaluate(EvaluateOptions(**given, out=setting.empty("evaluation"))))


def pair(setting: Setting) -> tuple[Any, Any, Any]:
    """The liver, the same three voxels further left, and the affine."""
    import nibabel as nib

    [file] = large_scan(setting).labels.glob("*.nii.gz")
    image = nib.load(file)
    liver = np.asarray(image.dataobj) == int(LIVER.partition("=")[2])
    return liver, np.roll(liver, 3, axis=0), image.affine


def metrics(setting: Setting) -> Work:
    from frugalseg.evaluation.metrics import compare

    reference, prediction, affine = pair(setting)
    return timed(lambda: compare(reference, prediction, affine, TOLERANCE, workers=1))


def metrics_with_monai(setting: Setting) -> Work:
    """HD95 and surface Dice; MONAI needs one call for each, and computes the distances in both."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    *masks, affine = pair(setting)
    spacing = np.abs(np.diag(affine)[:3]).tolist()

    def run() -> None:
        reference, prediction = (torch.from_numpy(mask)[None, None].float() for mask in masks)
        compute_hausdorff_distance(prediction, reference, include_background=True, percentile=95, spacing=spacing)
        compute_surface_dice(prediction, reference, [TOLERANCE], include_background=True, spacing=spacing)

    return timed(run)


CASES = [
    Case("predict, 1 class", "scan of 512×512×200", {OURS: partial(predict, target=[LIVER])}, memory=True),
    Case("predict, 13 classes", "scan of 512×512×200", {OURS: partial(predict, target=ORGANS)}, memory=True),
    Case("evaluate", "liver in 512×512×200, with reading", {OURS: evaluate}, memory=True),
    Case("metrics", "liver in 512×512×200", {OURS: metrics, "MONAI: HD95, surface Dice": metrics_with_monai}),
]
