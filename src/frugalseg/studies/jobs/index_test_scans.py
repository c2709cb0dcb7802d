"""Indexing scans that are only used for testing: they are read once, to check and to identify them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frugalseg.dataset.annotated import require_whole_masks
from frugalseg.dataset.prepare import make_split, report_failures
from frugalseg.dataset.splits import parse_patient
from frugalseg.dataset.stamp import Stamps, stamp_scan
from frugalseg.dataset.targets import check_values_present, parse_targets
from frugalseg.engine.files import sha256
from frugalseg.engine.parallel import map_cases
from frugalseg.errors import ScanError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import canonical
from frugalseg.options import PrepareOptions
from frugalseg.records.scan_index import IndexedScan, ScanIndex
from frugalseg.studies.plan.data import find_references


def index_test_scans(options: PrepareOptions) -> None:
    """Write `options.out`, a JSON file of every labelled scan: case, patient, fingerprint, its mask's hash and values.

    Scans whose files did not change since they were indexed are not read again.

    Raises:
        ScanError: scans cannot be read, or none has a mask.
        PairingError: masks without a scan, or of which not every slice is a label.
        OptionError: a target value that no mask holds, or a pattern that finds no patient.
        SplitError: the split names unknown patients, or leaks.
    """
    images, labels = find_dataset(options.images, options.labels, options.series)
    if not labels:
        raise ScanError(f"{options.images} has no masks to test with", "give labels:")
    folder = find_references(options)
    require_whole_masks(folder, labels)
    patient = {case: parse_patient(case, options.patient_pattern) for case in labels}
    before = {scan.case: scan for scan in ScanIndex.read(options.out).scans} if options.out.is_file() else {}
    jobs = {case: _ScanToIndex(case, patient[case], images[case], mask) for case, mask in labels.items()}
    known = {c: before[c] for c, job in jobs.items() if c in before and before[c].stamp == job.read_stamps()}
    todo = {case: job for case, job in jobs.items() if case not in known}
    made, failures = map_cases(_index_scan, todo, "indexing", options.workers)
    report_failures(failures, len(jobs), options.skip_broken, "repair or remove them, or set skip_broken: true")
    scans = [replace((known | made)[case], patient=patient[case]) for case in jobs if case not in failures]
    values = (value for scan in scans for value in scan.values)
    check_values_present(parse_targets(options.target), values, where=f"the masks of {folder}")
    split = make_split({scan.patient: True for scan in scans}, scans, options)
    ScanIndex(scans=tuple(scans), split=split).write(options.out)


@dataclass(frozen=True)
class _ScanToIndex:
    case: str
    patient: str
    image: Path
    mask: Path

    def read_stamps(self) -> Stamps:
        return stamp_scan(self.image, self.mask)


def _index_scan(job: _ScanToIndex) -> IndexedScan:
    stamps = job.read_stamps()
    image = read_volume(job.image)
    mask = read_labels_on(job.mask, image, job.case)
    return IndexedScan(
        case=job.case,
        patient=job.patient,
        fingerprint=fingerprint(canonical(image)[0]),
        labels_sha256=sha256(job.mask),
        values=tuple(int(value) for value in np.unique(mask.array)),
        stamp=stamps,
    )
