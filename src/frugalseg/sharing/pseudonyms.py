"""model.json without what identifies patients, machines or people."""

from __future__ import annotations

from dataclasses import replace

from frugalseg.records.model import PromptableModel, ScanRole, UsedModel
from frugalseg.records.networks import SegmenterRecord
from frugalseg.weights.catalogue import CATALOGUE

EARLIER = "an earlier model"
"""Instead of the run folder of a model that training started from, or learned from."""
DIGITS = 12


def anonymise(record: SegmenterRecord, keep_names: bool) -> SegmenterRecord:
    """The record with pseudonyms for case ids, unless they are kept, and without paths.

    A scan's fingerprint stays: `predict` and `evaluate` recognise training scans by it, and it says nothing about the
    voxels to who does not have the scan.
    """
    named = record if keep_names else replace(record, scans=tuple(map(_rename, record.scans)))
    encoder = _without_path(record.frozen_encoder)
    return replace(
        named,
        backbone=record.backbone if encoder is None else encoder.model,
        frozen_encoder=encoder,
        pseudo_labels_refined_by=_without_path(record.pseudo_labels_refined_by),
        outlines_propagated_by=_without_path(record.outlines_propagated_by),
        initial_model=_without_folder(record.initial_model),
        teacher=_without_folder(record.teacher),
    )


def _rename(scan: ScanRole) -> ScanRole:
    """The same pseudonym for the same voxels, whatever the scan was called; none of a case id."""
    return replace(scan, case=f"scan-{scan.fingerprint[:DIGITS]}" if scan.case else "")


def _without_path(model: PromptableModel | None) -> PromptableModel | None:
    if model is None or model.model in CATALOGUE:
        return model
    return replace(model, model=model.name)


def _without_folder(model: UsedModel | None) -> UsedModel | None:
    return None if model is None else replace(model, model=EARLIER)
