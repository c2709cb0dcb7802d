"""store.json of stores that are made up in memory."""

from __future__ import annotations

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.store import FileStamp, ScanEntry, SplitParameters, StoreParameters, StoreRecord


def store_record(targets: dict[str, tuple[int, ...]] | None = None, size: int = 16) -> StoreRecord:
    """The record of one scan of one slice, which a test that makes up slices.parquet does not look at."""
    organs = targets or {}
    stamps = (FileStamp("/data/images/scan.nii.gz", 1, 1), FileStamp(None, 0, 0))
    scan = ScanEntry(
        case="scan",
        patient="scan",
        slices=1,
        stamp=stamps,
        image_sha256="0" * 64,
        labels_sha256=None,
        fingerprint="0" * 64,
        z_mm=5.0,
        row_mm=4.0,
        column_mm=4.0,
        values=(),
        present=((False,) * len(organs),),
    )
    intensity = IntensityScale("ct", -160.0, 240.0)
    split = SplitParameters(fractions=(0.15, 0.25), seed=0)
    parameters = StoreParameters(size=size, intensity=intensity, targets=organs, patient_pattern="(.+)", split=split)
    return StoreRecord(parameters=parameters, scans=(scan,))
