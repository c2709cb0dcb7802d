"""Calibrate the confidence of propagated masks on scans whose complete masks are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frugalseg._version import __version__
from frugalseg.confidence.calibration import ScoredMask, calibrate
from frugalseg.confidence.overlap import Overlap
from frugalseg.confidence.select import RANK_ONLY, select_calibrations
from frugalseg.dataset.targets import Targets, parse_targets
from frugalseg.engine.progress import progress, say
from frugalseg.errors import OptionError, PairingError
from frugalseg.imaging.find import find_masks
from frugalseg.imaging.labels import read_labels_on, read_own_labels
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import CalibrateOptions
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.propagation_calibration import CALIBRATION_FILE, PropagationCalibration

DECIDING = ("engine", "margin_mm", "candidates", "min_overlap")
"""Options that change propagated masks, beside the model."""


def calibrate_propagation(options: CalibrateOptions) -> PropagationCalibration:
    """Calibrate the masks that `frugalseg propagate` wrote, and write calibration.json beside them.

    Slices that a person annotated are left out: they are copies. Every scan counts as a patient.

    Raises:
        PairingError: the folder was not written by `propagate`, or without names of organs; no reference belongs to its
            masks, or grids differ.
        ScanError: a mask is unreadable.
        OptionError: a wrong target, or one that was not propagated.
    """
    assert options.propagated is not None
    assert options.references is not None
    record = _read_record(options.propagated)
    assert record.promptable is not None
    scored = score_scans(options.propagated, options.references, parse_targets(options.target))
    found = {organ: calibrate(masks, "all") for organ, masks in scored.items()}
    calibration = PropagationCalibration(
        version=__version__,
        signature=record.promptable.signature,
        settings=_select_deciding(record.settings),
        organs={organ: own for organ, own in found.items() if own is not None},
    )
    calibration.write(options.propagated / CALIBRATION_FILE)
    return calibration


def score_scans(propagated: Path, references: Path, wanted: Targets) -> dict[str, list[ScoredMask]]:
    """Organ → its propagated mask in each scan that has a reference, with confidence and Dice.

    Args:
        propagated: folder of `frugalseg propagate`.
        references: complete masks.
        wanted: organs of the references; empty: those of the propagated masks.

    Raises:
        PairingError, ScanError, OptionError: see `calibrate_propagation`.
    """
    record = _read_record(propagated)
    if not record.targets:
        raise PairingError(
            f"{propagated / PREDICTIONS_FILE} names no organ",
            "propagate with names of the organs, for example --target liver=6",
        )
    if unknown := [organ for organ in wanted if organ not in record.targets]:
        raise OptionError(
            f"--target {unknown[0]}: no such organ was propagated, only {', '.join(record.targets)}",
            "name one of these",
        )
    known = {case: path for case, path in find_masks(references).items() if case in record.masks}
    if not known:
        raise PairingError(
            f"no mask in {references} has the case id of a mask in {propagated}",
            "give complete masks of scans that were propagated",
        )
    wanted = wanted or record.targets
    scored: dict[str, list[ScoredMask]] = {organ: [] for organ in wanted}
    with progress("calibrating the confidence", len(known), "scans") as bar:
        for case, path in known.items():
            for organ, mask in _score_scan(propagated, record, case, path, wanted).items():
                scored[organ].append(mask)
            bar.advance()
    return scored


def find_calibrations(path: Path | None, signature: str, settings: Mapping[str, object]) -> dict[str, OrganCalibration]:
    """Organ → the calibration of propagated masks; says why there is none.

    Args:
        path: calibration.json or its folder, as given; None: none was.
        signature: of the promptable model.
        settings: of the propagation, as in predictions.json.

    Raises:
        RunError: the file is missing or damaged.
    """
    if path is None:
        return {}
    known = PropagationCalibration.read(path / CALIBRATION_FILE if path.is_dir() else path)
    if known.signature != signature:
        say(f"{path} is of another promptable model: {RANK_ONLY}")
        return {}
    mine = _select_deciding(settings)
    if changed := [name for name in DECIDING if mine.get(name) != known.settings.get(name)]:
        say(f"{path} is of another --{changed[0].replace('_', '-')}: {RANK_ONLY}")
        return {}
    return select_calibrations(known.organs, dict.fromkeys(known.organs, "all"), averaged=False)


def _read_record(folder: Path) -> PredictionRecord:
    record = PredictionRecord.read_beside(folder)
    if record is None or record.method != "propagate":
        raise PairingError(
            f"{folder} was not written by `frugalseg propagate`", f"give a folder with its masks and {PREDICTIONS_FILE}"
        )
    return record


def _select_deciding(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: settings.get(name) for name in DECIDING}


def _score_scan(
    folder: Path, record: PredictionRecord, case: str, reference: Path, wanted: Targets
) -> dict[str, ScoredMask]:
    """Organ → its mask in one scan, with confidence and Dice; without organs that were propagated to no slice."""
    volume = read_own_labels(folder / record.masks[case], record.find_scan(case, folder), case)
    turned = [canonical(one)[0].array for one in (volume, read_labels_on(reference, volume, case))]
    mask, true = (axial_slices(array) for array in turned)
    entries = record.select_case(case)
    drawn = np.isin(np.arange(len(mask)), entries.annotated or ())  # copies of what a person drew, and so certain
    scored = {}
    for organ, confidence in (entries.confidence or {}).items():
        if organ in wanted:
            own = np.isin(mask, record.targets[organ]) & ~drawn[:, None, None]
            against = Overlap.between(own, np.isin(true, wanted[organ]) & ~drawn[:, None, None])
            known = np.zeros(len(mask))
            known[list(confidence.slices.slice)] = confidence.slices.confidence
            scored[organ] = ScoredMask(case, Overlap.from_confidence(against.mask, known), against)
    return scored
