"""Read the model of a finished run, of whatever kind."""

from __future__ import annotations

from pathlib import Path

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import RunError
from frugalseg.records.model import ModelRecord, read_model_kind
from frugalseg.records.networks import EncoderRecord, SegmenterRecord
from frugalseg.records.sam_mix import SamMixRecord

KINDS: dict[str, type[EncoderRecord | SegmenterRecord | SamMixRecord]] = {
    record.KIND: record for record in (EncoderRecord, SegmenterRecord, SamMixRecord)
}


def read_model(folder: Path) -> EncoderRecord | SegmenterRecord | SamMixRecord:
    """The record of a finished run of any kind; raises `RunError` as `ModelRecord.read_run`."""
    kind = read_model_kind(folder)
    if kind not in KINDS:
        raise RunError(
            f"{folder / MODEL_FILE} is damaged: its kind is {kind!r}, expected {', '.join(KINDS)}", ModelRecord.CURE
        )
    return KINDS[kind].read(folder / MODEL_FILE)


def read_mask_model(folder: Path) -> SegmenterRecord | SamMixRecord:
    """The record of a finished run whose model makes masks; raises `RunError` as `ModelRecord.read_run`."""
    record = read_model(folder)
    return SegmenterRecord.read_run(folder) if isinstance(record, EncoderRecord) else record
