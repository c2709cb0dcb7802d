"""Store records for benchmarks with synthetic stores."""

from __future__ import annotations

from pathlib import Path

from frugalseg.records.store import StoreRecord


def store_record(size: int, organs: tuple[str, ...] = ()) -> StoreRecord:
    """A record with a single scan of one slice; the benchmarks provide the slices and do not use the scans."""
    scan = {
        **{"case": "scan", "patient": "scan", "fingerprint": "", "image_sha256": "", "labels_sha256": None},
        **{"slices": 1, "z_mm": 5.0, "row_mm": 1.0, "column_mm": 1.0, "values": [], "present": [[False] * len(organs)]},
        "stamp": [["scan.nii.gz", 1, 1], [None, 0, 0]],
    }
    parameters = {
        "size": size,
        "intensity": {"kind": "ct", "low": -160, "high": 240},
        "targets": {organ: [value] for value, organ in enumerate(organs, start=1)},
        **{"patient_pattern": "(.+)", "split": {}},
    }
    return StoreRecord.parse({"format": StoreRecord.FORMAT, "parameters": parameters, "scans": [scan]}, Path())
