"""A test set of DICOM series, one of which `series:` chooses for each patient."""

from __future__ import annotations

import numpy as np

from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import canonical
from frugalseg.imaging.write import write_mask
from frugalseg.records.scan_index import ScanIndex
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import study
from tests.imaging.scans import write_series
from tests.promptable.tiny_networks import sam
from tests.studies.plans import changed, options, write_plan

METHODS = """\
  scratch: {}
  theirs:
    masks: {held out: labels, away: hospital/labels}
    target: [liver=6]
    annotation: made by hand
    budgets: ["1 scans"]
  refined: {of: scratch, refine: {model: sam, min_iou: 0, device: cpu, precision: 32}}
  one slice: {propagate: {model: sam, device: cpu, precision: 32}}
  oracle boxes: {refine: {model: sam, oracle: true, device: cpu, precision: 32}}
"""


def write_hospital(folder):
    """Two patients with a thick and a thin series each, and masks of the thin ones under the patients' names."""
    (folder / "labels").mkdir(parents=True)
    for number, case in enumerate(("P1", "P2"), 1):
        write_series(folder / "images" / case / "SE1", 4, (0, 0, 5), (32, 32), series=f"1.{number}.1")
        thin = folder / "images" / case / "SE2"
        write_series(thin, 6 + number, (0, 0, 1), (32, 32), series=f"1.{number}.2")
        scan = read_volume(thin)
        labels = np.zeros(scan.array.shape, np.uint8)
        labels[8:20, 8:20, 1:4] = 6
        write_mask(scan.with_array(labels), folder / "labels" / f"{case}.nii.gz")


def test_every_kind_of_method_is_tested_on_the_chosen_series(tmp_path):
    text = changed(
        ("{images: away/images, labels: away/labels,", "{images: hospital/images, labels: hospital/labels,"),
        ("target: [liver=6], size: 32}", "target: [liver=6], series: [thinnest], size: 32}"),
        ("seeds: [0, 1]", "seeds: [0]"),
    )
    start, end = text.index("  scratch: {}"), text.index("budgets:")
    plan = write_plan(tmp_path, text[:start] + METHODS + text[end:])
    write_hospital(tmp_path / "hospital")
    sam().save_pretrained(tmp_path / "sam")
    study(options(plan, tmp_path / "out"))
    results = collect_results(tmp_path / "out")
    assert results.trials.set_index("method")["state"].to_dict() == dict.fromkeys(results.methods, "done")
    away = results.cases[results.cases["test"] == "away"]
    assert away.groupby("method")["case"].agg(list).to_dict() == {method: ["P1", "P2"] for method in results.methods}
    assert (away.loc[away["method"] == "theirs", "dice"] == 1).all()
    (index,) = (tmp_path / "out" / "stores").glob("away-*.json")
    for scan in ScanIndex.read(index).scans:
        chosen = read_volume(tmp_path / "hospital" / "images" / scan.case / "SE2")
        assert scan.fingerprint == fingerprint(canonical(chosen)[0])
