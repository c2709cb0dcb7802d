"""`frugalseg predict`, with or without refinement: it lies here because segment/ knows nothing of this room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from frugalseg.errors import RunError, ScanError
from frugalseg.models.saved import load_spec
from frugalseg.options import PredictOptions, RefineOptions
from frugalseg.segment.predict import predict as predict_coarse


def predict(options: PredictOptions) -> dict[str, Path]:
    """Segment every scan, and refine the masks where --refine names a model; returns case id → mask.

    Refined masks lie in `out`, those of the trained model alone in `out/coarse`; each folder has its note.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError, OptionError, DeviceError: see `segment.predict.predict` and `sam.refine.refine`.
    """
    if options.refine is None:
        return predict_coarse(options)
    from frugalseg.sam.load import find_weights
    from frugalseg.sam.refine import COARSE, note_beside, refine

    find_weights(options.refine)  # before hours of predicting
    coarse = options.out / COARSE
    used = options.out.is_dir() and any(entry.name != COARSE for entry in options.out.iterdir())
    if used and options.resume == "no" and not options.overwrite:
        raise RunError(f"{options.out} is in use", "choose another --out, or give --overwrite")
    broken: ScanError | None = None
    try:
        predict_coarse(replace(options, refine=None, out=coarse))
    except ScanError as error:
        if not note_beside(coarse).get("masks"):
            raise
        broken = error  # the other scans are there, and are refined first
    refined = refine(
        RefineOptions(
            images=options.images,
            masks=coarse,
            out=options.out,
            model=options.refine,
            case=options.case,
            device=options.device,
            precision=options.precision,
            overwrite=options.overwrite,
            resume="no" if options.resume == "no" else "auto",
            **_as_trained(options.model),
        )
    )
    if broken is not None:
        raise broken
    return refined


def _as_trained(run: Path) -> dict[str, Any]:
    """The intensities that the trained model was shown, as options of `refine`."""
    intensity = load_spec(run, "segmenter")["preprocessing"]["intensity"]
    limits = (float(intensity["low"]), float(intensity["high"]))
    return {"modality": intensity["kind"], "window" if intensity["kind"] == "ct" else "percentiles": limits}
