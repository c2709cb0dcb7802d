"""From a training to masks: the calibration that is stored, the promises that are written, and what they depend on."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.confidence.calibration import bound, expect
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.segmentation.losses import probabilities
from frugalseg.segmentation.predict import Predictor
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}
VALIDATION = ["scan_02", "scan_03"]
SPLIT = {"train": ["scan_00", "scan_01"], "validation": VALIDATION, "test": ["scan_04", "scan_05"]}


def train(root, **more):
    return finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=60, budget="2 scans", **EXACT, **more))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A cohort, of which two patients are for validation, and a model of its liver and spleen."""
    root = tmp_path_factory.mktemp("calibrate")
    images, labels = write_cohort(root, 6, shape=(32, 32, 8))
    (root / "split.json").write_text(json.dumps(SPLIT))
    target = ["liver=6", "spleen=1"]
    store = {"images": images, "labels": labels, "target": target, "size": 32, "split": root / "split.json"}
    prepare(PrepareOptions(out=root / "store", **store))
    train(root)
    return root


@pytest.fixture(scope="module")
def calibration(root):
    return SegmenterRecord.read_run(root / "fit").calibration["probabilities"]


def options(root, out, **more) -> PredictOptions:
    return PredictOptions(model=root / "fit", images=root / "images", out=out, **EXACT, **more)


def read(out) -> PredictionRecord:
    return PredictionRecord.read(out / PREDICTIONS_FILE)


def test_the_calibration_is_that_of_the_validation_patients_slice_by_slice(root, calibration):
    """Against the definition: predict each scan as a whole, count pixels, take the worst of the two patients."""
    store, model = SliceStore.open(root / "store"), Predictor.load(options(root, root / "unused"))
    assert calibration.keys() == {"liver", "spleen"}
    for number, (organ, own) in enumerate(calibration.items(), start=1):
        multiples, doubts, shortfalls = [], [], []
        for case in VALIDATION:
            rows = store.slices.index[store.slices["case"] == case].to_numpy()
            with torch.inference_mode():
                p = probabilities(model.network(torch.from_numpy(store.images[rows]).float()[:, None])).numpy()
            background = 1 - p.sum(axis=1, keepdims=True)
            mask = np.concatenate([background, p], axis=1).argmax(axis=1) == number
            p, reference = p[:, number - 1], store.labels[rows] == number
            shown = [z for z in range(len(rows)) if mask[z].any()]
            own_dice = [2 * (p[z] * mask[z]).sum() / (p[z].sum() + mask[z].sum()) for z in shown]
            dice = [2 * (reference[z] & mask[z]).sum() / (reference[z].sum() + mask[z].sum()) for z in shown]
            multiple = [(1 - d) / max(1 - c, 0.005) for c, d in zip(own_dice, dice, strict=True)]
            multiples.append(sorted(multiple)[int(np.ceil(0.9 * len(multiple))) - 1])
            doubts.append(1 - 2 * (p * mask).sum() / (p.sum() + mask.sum()))
            shortfalls.append(1 - 2 * (reference & mask).sum() / (reference.sum() + mask.sum()))
        assert own.keep == "all"
        assert own.slices.bound == pytest.approx(max(multiples), rel=0.02), organ
        assert own.scans.expected == pytest.approx(sum(shortfalls) / sum(np.maximum(doubts, 0.005)), rel=0.02), organ


def test_two_validation_patients_give_no_bound_for_scans_and_one_for_slices_in_two_of_three_patients(calibration):
    for own in calibration.values():
        assert own.patients == own.scans.masks == 2
        assert own.scans.bound is None
        assert own.slices.holds_for == pytest.approx(2 / 3)


def test_predictions_have_the_confidence_of_each_organ_and_slice(root, calibration, tmp_path, capsys):
    predict(options(root, tmp_path / "out"))
    told = capsys.readouterr().err
    assert told.count("no lower bound for whole scans") == 1
    assert "needs 9 patients, this calibration has 2" in told
    record = read(tmp_path / "out")
    assert set(record.confidence) == set(record.masks)
    for organs in record.confidence.values():
        for organ, own in organs.items():
            assert own.source == "probabilities"
            assert own.expected_dice == pytest.approx(
                float(expect(own.confidence, calibration[organ].scans)),
                abs=0.001 * (1 + calibration[organ].scans.expected),
            )
            assert own.lower_bound is None
            slices = own.slices
            assert len(slices.slice) == len(slices.confidence) == len(slices.expected_dice) == len(slices.lower_bound)
            lowest = bound(np.array(slices.confidence), calibration[organ].slices)
            assert slices.lower_bound == pytest.approx(lowest, abs=0.001 * (1 + calibration[organ].slices.bound))
    (_, shown) = next(iter(record.confidence.items()))
    assert shown["liver"].confidence > 0.5


def test_the_tables_hold_every_mask_the_least_certain_first_and_every_slice(root, tmp_path):
    out = tmp_path / "out"
    predict(options(root, out))
    record = read(out)
    rows = list(csv.DictReader((out / "confidence.csv").open(newline="")))
    assert [float(row["expected_dice"]) for row in rows] == sorted(float(row["expected_dice"]) for row in rows)
    assert {(row["case"], row["organ"]) for row in rows} == {
        (c, o) for c, own in record.confidence.items() for o in own
    }
    assert all(row["lower_bound"] == "" for row in rows)
    for row in rows:
        slices = record.confidence[row["case"]][row["organ"]].slices
        known = dict(zip(slices.slice, slices.confidence, strict=True))
        weakest = [known[int(z)] for z in row["weakest_slices"].split()]
        assert weakest == sorted(slices.confidence)[:3]
    for case, organs in record.confidence.items():
        slices = list(csv.DictReader((out / f"{case}.slices.csv").open(newline="")))
        assert [int(row["slice"]) for row in slices] == sorted(int(row["slice"]) for row in slices)
        for organ, own in organs.items():
            of_organ = [row for row in slices if row["organ"] == organ]
            assert tuple(int(row["slice"]) for row in of_organ) == own.slices.slice
            assert tuple(float(row["lower_bound"]) for row in of_organ) == own.slices.lower_bound


def test_the_order_of_the_confidence_is_that_of_the_quality_where_a_scan_is_spoilt(root, tmp_path):
    """A scan in noise is segmented worse, and the program says so without seeing a reference."""
    import nibabel as nib

    images = tmp_path / "images"
    images.mkdir()
    for case in SPLIT["test"]:
        shutil.copy(root / "images" / f"{case}.nii.gz", images)
    known = nib.load(images / "scan_05.nii.gz")
    noise = np.random.default_rng(0).normal(0, 120, known.shape)
    spoilt = (np.asarray(known.dataobj) + noise).clip(-1024, 1500).astype(np.int16)
    nib.save(nib.Nifti1Image(spoilt, known.affine), images / "spoilt.nii.gz")
    predict(PredictOptions(model=root / "fit", images=images, out=tmp_path / "out", **EXACT))
    confidence = read(tmp_path / "out").confidence
    assert confidence["spoilt"]["liver"].confidence < confidence["scan_05"]["liver"].confidence - 0.02


@pytest.mark.parametrize(
    ("change", "said"),
    [({"keep": "largest"}, "liver and spleen: the model was calibrated with another --keep"), ({"tta": True}, "--tta")],
)
def test_other_masks_than_the_calibrated_ones_get_no_promise(root, tmp_path, capsys, change, said):
    predict(options(root, tmp_path, case=["scan_04"], **change))
    told = capsys.readouterr().err
    assert told.count(said) == 1
    assert "ranks masks and slices, but promises no Dice" in told
    own = read(tmp_path).confidence["scan_04"]["liver"]
    assert own.confidence > 0
    assert own.expected_dice is own.lower_bound is None
    assert own.slices.expected_dice == own.slices.lower_bound == ()


def test_a_model_of_an_earlier_version_gets_no_promise_and_says_so_once(root, tmp_path, capsys):
    shutil.copytree(root / "fit", tmp_path / "fit")
    content = json.loads((root / "fit" / "model.json").read_text())
    del content["calibration"]
    (tmp_path / "fit" / "model.json").write_text(json.dumps(content))
    predict(PredictOptions(model=tmp_path / "fit", images=root / "images", out=tmp_path / "out", **EXACT))
    assert capsys.readouterr().err.count("was not calibrated on validation patients") == 1
    assert all(own["liver"].expected_dice is None for own in read(tmp_path / "out").confidence.values())


def test_organs_that_are_not_written_have_no_confidence(root, tmp_path):
    predict(options(root, tmp_path, case=["scan_04"], target=["spleen=3"]))
    assert read(tmp_path).confidence["scan_04"].keys() == {"spleen"}


def test_an_organ_that_a_scan_does_not_show_has_no_confidence(root, tmp_path):
    import nibabel as nib

    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    empty = rng.normal(-900, 10, (32, 32, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(empty, np.diag([4.0, 4.0, 5.0, 1.0])), images / "air.nii.gz")
    options = PredictOptions(model=root / "fit", images=images, out=tmp_path / "out", modality="ct", **EXACT)
    mask = predict(options)["air"]
    if np.asarray(nib.load(mask).dataobj).any():
        pytest.skip("the model finds an organ in air")
    assert read(tmp_path / "out").confidence == {"air": {}}
    assert (tmp_path / "out" / "confidence.csv").read_text().splitlines() == [
        "case,organ,confidence,expected_dice,lower_bound,weakest_slices"
    ]


def test_labels_of_test_scans_are_not_read(root, tmp_path):
    """A calibration that looked at them would differ; prediction needs no labels at all."""
    shutil.copytree(root / "store", tmp_path / "store")
    store = SliceStore.open(tmp_path / "store")
    test = store.slices.index[store.slices["patient"].isin(SPLIT["test"])].to_numpy()
    labels = np.load(tmp_path / "store" / "labels.npy", mmap_mode="r+")
    labels[test] = 255
    labels.flush()
    train(tmp_path)
    assert SegmenterRecord.read_run(tmp_path / "fit") == SegmenterRecord.read_run(root / "fit")
    shutil.copytree(root / "images", tmp_path / "images")
    shutil.rmtree(tmp_path / "store")
    predict(options(tmp_path, tmp_path / "a", case=["scan_04"]))
    predict(options(root, tmp_path / "b", case=["scan_04"]))
    assert read(tmp_path / "a").confidence == read(tmp_path / "b").confidence


def test_without_validation_patients_nothing_is_promised(root, tmp_path, capsys):
    (tmp_path / "split.json").write_text(json.dumps({"train": SPLIT["train"], "validation": [], "test": SPLIT["test"]}))
    shutil.copytree(root / "store", tmp_path / "store")
    with pytest.warns(UserWarning, match="no validation patient has labels"):
        train(tmp_path, split=tmp_path / "split.json")
    assert SegmenterRecord.read_run(tmp_path / "fit").calibration == {"probabilities": {}}
    shutil.copytree(root / "images", tmp_path / "images")
    predict(options(tmp_path, tmp_path / "out", case=["scan_04"]))
    assert "was not calibrated on validation patients" in capsys.readouterr().err


def test_the_report_shows_promise_and_result_side_by_side(root, tmp_path):
    predict(options(root, tmp_path / "out"))
    evaluate(EvaluateOptions(predictions=tmp_path / "out", references=root / "labels", out=tmp_path / "eval"))
    page = (tmp_path / "eval" / "report.html").read_text()
    table = page[page.index('<table id="trust">') :]
    table = table[: table.index("</table>")]
    record = read(tmp_path / "out")
    assert table.count("<tr><td>") == sum(map(len, record.confidence.values()))
    assert f'data-value="{record.confidence["scan_04"]["liver"].expected_dice}"' in table
    assert "Measured Dice" in table
