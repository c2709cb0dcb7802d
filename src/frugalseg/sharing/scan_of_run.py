"""The scans that a trained model's store was made from."""

from __future__ import annotations

from pathlib import Path

from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import FrugalsegError, OptionError
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.store import StoreRecord


def find_scan(run: Path, record: SegmenterRecord) -> Path:
    """The first test scan of a model's store that is still there, otherwise any other scan of it.

    Raises:
        OptionError: there is none.
    """
    store = read_store(run)
    order = sorted(record.scans, key=lambda scan: scan.role != "test")
    paths = {scan.case: Path(scan.image) for scan in store.scans} if store else {}
    found = next((paths[scan.case] for scan in order if scan.case in paths and paths[scan.case].exists()), None)
    if found is None:
        raise OptionError(
            f"the slice store of {run}, or its scans, are no longer where they were", "give a scan by --scan"
        )
    return found


def read_store(run: Path) -> StoreRecord | None:
    """store.json of the store that a run was trained on; None where run or store are no longer there."""
    try:
        config = load_yaml((run / "config.yaml").read_text(encoding="utf-8"))
        return StoreRecord.read(Path(config["data"]) / "store.json")
    except (OSError, ValueError, KeyError, TypeError, FrugalsegError):
        return None
