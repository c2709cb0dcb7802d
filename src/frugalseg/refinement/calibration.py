"""The calibration that applies to refined masks: it is that of the model whose masks are refined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from frugalseg.confidence.select import RANK_ONLY, select_calibrations
from frugalseg.engine.progress import say
from frugalseg.errors import FrugalsegError
from frugalseg.options import RefineOptions
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PredictionRecord

DECIDING = ("margin_mm", "candidates", "boxes", "min_iou", "min_area_mm2", "smooth_slices")
"""Options that change refined masks; the calibration is for their defaults."""


def find_calibrations(source: PredictionRecord, options: RefineOptions, signature: str) -> dict[str, OrganCalibration]:
    """Organ → the calibration of its refined masks; says why there is none.

    Args:
        source: record of the masks that are refined.
        options: of the refinement.
        signature: of the promptable model.
    """
    if "average_with" in source.settings:
        say(f"refined masks of several models' mean are not calibrated: {RANK_ONLY}")
        return {}
    known = {o: c for o, c in _read_calibrations(source.model).items() if c.refined_by == signature}
    if not known:
        cure = f"`frugalseg calibrate --refine {options.model}` does it"
        say(f"refined masks of this model were not calibrated ({cure}): {RANK_ONLY}")
        return {}
    defaults = {field.name: field.default for field in fields(RefineOptions)}
    if changed := [name for name in DECIDING if getattr(options, name) != defaults[name]]:
        say(f"refined masks were calibrated with another --{changed[0].replace('_', '-')}: {RANK_ONLY}")
        return {}
    keep = source.settings.get("keep")
    averaged = source.settings.get("flips") is True or "degrees" in source.settings
    return select_calibrations(known, keep if isinstance(keep, Mapping) else {}, averaged)


def _read_calibrations(model: str | None) -> dict[str, OrganCalibration]:
    """Those of the model's refined masks; none where the model is unknown, gone, or of another kind."""
    if model is None:
        return {}
    try:
        return SegmenterRecord.read_run(Path(model)).calibration.get("agreement", {})
    except FrugalsegError:
        return {}
