"""`frugalseg calibrate`: learn how far masks may be trusted, those of a model or of a propagation.

It is in this package because `segmentation` may not import `promptable`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import find_device
from frugalseg.engine.files import MODEL_FILE
from frugalseg.engine.progress import say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import OptionError
from frugalseg.models.saved import read_network_record
from frugalseg.options import CalibrateOptions
from frugalseg.propagation.calibrate import calibrate_propagation
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.propagation_calibration import PropagationCalibration
from frugalseg.segmentation.calibrate import calibrate_model
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.pseudo import MaskRefiner
from frugalseg.segmentation.record import find_role
from frugalseg.segmentation.validate import ValidationSet
from frugalseg.text import pluralize


@with_threads
def calibrate(options: CalibrateOptions) -> SegmenterRecord | PropagationCalibration:
    """Calibrate a model, or propagated masks; returns the record that has the calibration, after writing it.

    Raises:
        RunError, StoreError, DeviceError: see `frugalseg.errors`.
        OptionError: the store was prepared differently from that of the training, or has no scan to learn from; or the
            promptable model is unknown or not installed.
        PairingError, ScanError: see `propagation.calibrate`.
    """
    return _calibrate_model(options) if options.propagated is None else calibrate_propagation(options)


def _calibrate_model(options: CalibrateOptions) -> SegmenterRecord:
    assert options.model is not None
    assert options.data is not None
    record = read_network_record(SegmenterRecord, options.model)
    store = SliceStore.open(options.data)
    _check_prepared_alike(options, record, store)
    device = find_device(options.device)
    refiner = None if options.refine is None else _load_refiner(options, store, device)
    validation = _open_scans(options, record, store, device)
    patients = {str(store.slices.at[int(rows[0]), "patient"]) for rows in validation.cases.values()}
    say(f"calibrating on {pluralize(len(validation.cases), 'scan')} of {pluralize(len(patients), 'patient')}")
    network = load_segmenter(options.model, record, device, options.precision)
    keep = {organ: record.keep[organ] for organ in record.targets}
    found = calibrate_model(validation, network, keep, refiner)
    record = replace(record, calibration={**record.calibration, **found})
    record.write(options.model / MODEL_FILE)
    return record


def _check_prepared_alike(options: CalibrateOptions, record: SegmenterRecord, store: SliceStore) -> None:
    wanted, given = record.preprocessing, store.preprocessing
    for name, trained, here in (
        ("organs", list(record.targets), list(store.targets)),
        ("size", wanted.size, given.size),
        ("intensities", wanted.intensity, given.intensity),
    ):
        if trained != here:
            raise OptionError(
                f"--data {options.data}: its {name} are {here}, those of the model are {trained}",
                "prepare the scans with the options of the store that the model was trained on",
            )


def _open_scans(
    options: CalibrateOptions, record: SegmenterRecord, store: SliceStore, device: torch.device
) -> ValidationSet:
    """The completely labelled scans that the model was not trained on, and that are not held out for its test."""
    roles = {scan.case: find_role(record.scans, scan.case, scan.fingerprint)[0] for scan in store.record.scans}
    usable = [case for case, role in roles.items() if role in ("validation", "new")]
    chosen = store.slices[store.slices["case"].isin(usable) & store.slices["labelled"]]
    rows = chosen.index.to_numpy()
    source = SliceSource(store, device, with_labels=True, rows=rows, context=record.context)
    cases = {str(case): torch.tensor(t.sort_values("z").index.to_numpy()) for case, t in chosen.groupby("case")}
    found = ValidationSet(store, source, cases, options.precision)
    whole = {case: cases[case] for case in found.find_whole_cases()}
    if not whole:
        raise OptionError(
            f"--data {options.data} has no labelled scan that the model was not trained on, besides its test scans",
            "give a store with completely labelled scans of its validation patients, or of other patients",
        )
    return replace(found, cases=whole)


def _load_refiner(options: CalibrateOptions, store: SliceStore, device: torch.device) -> MaskRefiner:
    from frugalseg.promptable.load import resolve_name
    from frugalseg.refinement.pseudo_labels import PseudoLabelRefiner

    assert options.refine is not None
    return PseudoLabelRefiner(store, replace(options, refine=resolve_name(options.refine)), device)
