"""Propagated masks that are calibrated on scans with complete masks."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from frugalseg.cli import main
from frugalseg.errors import OptionError, PairingError, RunError
from frugalseg.imaging.find import case_id
from frugalseg.options import CalibrateOptions, PropagateOptions
from frugalseg.propagation.calibrate import calibrate_propagation
from frugalseg.propagation.propagate import propagate
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from tests.imaging.segments.series import write_as_dicom
from tests.promptable.fake import Bright
from tests.propagation.test_propagate import OTHER_AXES, SAME_AXES, anatomy, only, save, slices_of

PATIENTS = 9
TARGETS = ["liver=6", "spleen=1"]


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """A promptable model that finds what is bright in its box."""

    def load(name, *_):
        return Bright(signature=name, score=0.95)

    monkeypatch.setattr("frugalseg.propagation.engines.load_promptable", load)


@pytest.fixture
def root(tmp_path):
    """Nine scans of one anatomy, with slice 5 annotated; the files of every other scan have other axes."""
    grey, labels = anatomy()
    for name in ("images", "labels", "annotations"):
        (tmp_path / name).mkdir()
    for patient in range(PATIENTS):
        affine = OTHER_AXES if patient % 2 else SAME_AXES
        for name, slices in (("images", grey), ("labels", labels), ("annotations", only(labels, 5))):
            save(tmp_path / name / f"{patient}.nii.gz", slices, affine)
    return tmp_path


def run(root, out, **more):
    folders = {"images": root / "images", "annotations": root / "annotations", "out": root / out}
    propagate(PropagateOptions(**{"target": TARGETS, "device": "cpu", "model": "bright", **folders, **more}))
    return PredictionRecord.read(root / out / PREDICTIONS_FILE)


def calibrate(root, **more):
    return calibrate_propagation(
        CalibrateOptions(**{"propagated": root / "out", "references": root / "labels", **more})
    )


def read_dice(root, case, organ, value, record):
    """Of the slices that nobody drew, of a scan and of its slices."""
    mask, true = (slices_of(root / folder / f"{case}.nii.gz") == value for folder in ("out", "labels"))
    mask[5] = true[5] = False
    both, sizes = (mask & true).sum((1, 2)), mask.sum((1, 2)) + true.sum((1, 2))
    shown = list(record.confidence[case][organ].slices.slice)
    return 2 * both.sum() / sizes.sum(), 2 * both[shown] / sizes[shown]


def test_the_calibrated_figures_are_those_of_the_slices_that_nobody_drew(root, capsys):
    """The expected Dice, averaged over the scans, is the measured mean, since every scan is alike."""
    record = run(root, "out")
    assert all(own.expected_dice is None for own in record.confidence["0"].values())
    found = calibrate(root)
    assert list(found.organs) == ["liver", "spleen"]
    again = run(root, "again", calibration=root / "out")
    for organ, value in (("liver", 6), ("spleen", 1)):
        assert found.organs[organ].patients == PATIENTS
        for case in ("0", "1"):
            scan, slices = read_dice(root, case, organ, value, record)
            promised = again.confidence[case][organ]
            assert promised.confidence == record.confidence[case][organ].confidence
            assert promised.expected_dice == pytest.approx(scan, abs=0.002)
            assert promised.lower_bound == pytest.approx(scan, abs=0.002)  # patients that are alike
            assert np.mean(promised.slices.expected_dice) == pytest.approx(np.mean(slices), abs=0.02)
    text = (root / "again" / "confidence.csv").read_text().splitlines()
    assert all(row.split(",")[3] and row.split(",")[4] for row in text[1:])


def test_masks_that_name_no_organ_or_not_the_wanted_one_are_refused(root):
    run(root, "out", target=[], case=["0"])
    with pytest.raises(PairingError, match="names no organ"):
        calibrate(root)
    run(root, "out", target=["liver=6"], case=["0"], overwrite=True)
    with pytest.raises(OptionError, match="spleen: no such organ was propagated, only liver"):
        calibrate(root, target=TARGETS)


def test_slices_that_a_person_drew_do_not_count(root):
    """Scribbled over in the reference, which would lower the Dice if the annotated slice were compared."""
    run(root, "out")
    before = calibrate(root)
    for patient in range(PATIENTS):
        labels = anatomy()[1]
        labels[5] = 0
        save(root / "labels" / f"{patient}.nii.gz", labels, OTHER_AXES if patient % 2 else SAME_AXES)
    assert calibrate(root) == before


def test_end_slices_that_the_propagation_missed_lower_the_dice_of_the_scan(root):
    run(root, "out", slice_range="3,8")
    found = calibrate(root).organs["liver"]
    assert found.scans.expected > 2 * found.slices.expected


def test_values_of_the_references_may_differ(root):
    run(root, "out")
    before = calibrate(root)
    for patient in range(PATIENTS):
        labels = np.where(anatomy()[1] == 6, 2, 0).astype(np.uint8)
        save(root / "labels" / f"{patient}.nii.gz", labels, OTHER_AXES if patient % 2 else SAME_AXES)
    found = calibrate(root, target=["liver=2"])
    assert found.organs == {"liver": before.organs["liver"]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "other"}, "another promptable model"),
        ({"margin_mm": 9.0}, "another --margin-mm"),
        ({"min_overlap": 0.1}, "another --min-overlap"),
    ],
)
def test_a_calibration_of_other_masks_is_not_used(root, change, told, capsys):
    run(root, "out")
    calibrate(root)
    record = run(root, "other", calibration=root / "out" / "calibration.json", **change)
    assert told in capsys.readouterr().err
    assert record.confidence["0"]["liver"].expected_dice is None


def test_few_scans_give_a_bound_for_slices_only(root, capsys):
    run(root, "out", case=["0", "1"])
    calibrate(root)
    record = run(root, "again", calibration=root / "out")
    assert "needs 9 patients, this calibration has 2" in capsys.readouterr().err
    own = record.confidence["3"]["liver"]
    assert own.lower_bound is None
    assert len(own.slices.lower_bound) == len(own.slices.slice)


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_masks_that_are_dicom_objects_give_the_same_calibration(root, kind):
    for path in (root / "images").iterdir():
        write_as_dicom(path, root / "series" / case_id(path))
    run(root, "out", images=root / "series")
    run(root, "objects", images=root / "series", output_type=kind)
    first, second = (calibrate(root, propagated=root / name) for name in ("out", "objects"))
    assert list(first.organs) == ["liver", "spleen"]
    assert second.organs == first.organs


def test_by_the_command_line(root, capsys):
    run(root, "out")
    assert main(["calibrate", "--propagated", str(root / "out"), "--references", str(root / "labels")]) == 0
    told = capsys.readouterr().err
    assert "propagated  liver   9" in told
    assert json.loads((root / "out" / "calibration.json").read_text())["settings"]["engine"] == "box"


def test_wrong_folders(root, tmp_path):
    run(root, "out")
    with pytest.raises(PairingError, match="was not written by `frugalseg propagate`"):
        calibrate(root, propagated=root / "labels")
    (root / "others").mkdir()
    shutil.copy(root / "labels" / "0.nii.gz", root / "others" / "x.nii.gz")
    with pytest.raises(PairingError, match="has the case id of a mask"):
        calibrate(root, references=root / "others")
    with pytest.raises(RunError, match=r"calibration\.json is missing"):
        run(root, "again", calibration=root / "labels")


@pytest.mark.parametrize(
    "given", [{}, {"model": "m"}, {"propagated": "p"}, {"model": "m", "data": "d", "references": "r"}]
)
def test_incomplete_or_mixed_options(given):
    with pytest.raises(OptionError, match="it is not clear what to calibrate"):
        CalibrateOptions(**given)
