"""Looking at scans that are only tested on: enough to know them again, and that they can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.dataset.splits import draw_split, patient_of, read_split
from frugalseg.dataset.store import same_image_groups
from frugalseg.dataset.targets import parse_targets
from frugalseg.engine.files import sha256, write_json
from frugalseg.engine.forms import Form
from frugalseg.engine.parallel import list_failures, map_cases
from frugalseg.errors import OptionError, ScanError, StoreError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.volume import canonical
from frugalseg.options import PrepareOptions
from frugalseg.text import counted

LIST = Form(
    {
        "scans": [
            {"case": str, "patient": str, "fingerprint": str, "labels_sha256?": str, "values": [int], "stamp": list}
        ],
        "split": {"train": [str], "validation": [str], "test": [str]},
    },
    StoreError,
    "delete it, and run the study again: the scans are then looked at once more",
)
"""The list of the scans that are only tested on."""


def look(options: PrepareOptions) -> None:
    """Write `options.out`, a JSON file of every labelled scan: case, patient, fingerprint, its mask's hash and values.

    Scans that have not changed since the last look are not read again.

    Raises:
        ScanError: scans cannot be read, or none has a mask.
        OptionError: a target value that no mask holds, or a pattern that finds no patient.
    """
    images, labels = find_dataset(options.images, options.labels)
    if not labels:
        raise ScanError(f"{options.images} has no masks to test with", "give labels:")
    patient = {case: patient_of(case, options.patient_pattern) for case in labels}
    before = {s["case"]: s for s in LIST.read(options.out)["scans"]} if options.out.is_file() else {}
    jobs = {case: (case, images[case], mask) for case, mask in labels.items()}
    whole = {c: scan for c, scan in before.items() if "labels_sha256" in scan}  # older lists lack it
    known = {c: whole[c] for c, job in jobs.items() if c in whole and whole[c]["stamp"] == stamp_of(*job[1:])}
    todo = {case: job for case, job in jobs.items() if case not in known}
    made, failures = map_cases(_look, todo, "looking", options.workers)
    if failures and (not options.skip_broken or len(failures) == len(jobs)):
        raise ScanError(
            f"{len(failures)} of {counted(len(jobs), 'scan')} cannot be read:\n{list_failures(failures)}",
            "repair or remove them, or set skip_broken: true",
        )
    scans = [(known | made)[case] for case in jobs if case not in failures]
    found = {value for scan in scans for value in scan["values"]}
    for organ, values in parse_targets(options.target).items():
        if missing := [value for value in values if value not in found]:
            raise OptionError(
                f"target {organ}: label value {missing[0]} is in none of the masks of {options.labels}", "correct it"
            )
    for scan in scans:
        scan["patient"] = patient[scan["case"]]
    alike = same_image_groups(scans)
    patients = {scan["patient"]: True for scan in scans}
    split = (
        read_split(options.split, patients, alike)
        if options.split is not None
        else draw_split(patients, alike, options.fractions, options.seed)
    )
    write_json(options.out, {"scans": scans, "split": split.to_dict()})


def _look(job: tuple[str, Path, Path]) -> dict[str, Any]:
    case, image_path, mask_path = job
    stamp = stamp_of(image_path, mask_path)
    image = read_volume(image_path)
    mask = onto_grid(read_labels(mask_path), image, case)
    return {
        "case": case,
        "fingerprint": fingerprint(canonical(image)[0]),
        "labels_sha256": sha256(mask_path),
        "values": [int(value) for value in np.unique(mask.array)],
        "stamp": stamp,
    }


def stamp_of(*paths: Path) -> list[list[Any]]:
    """Path, size and time of the files behind a scan: enough to see that they were exchanged."""
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
