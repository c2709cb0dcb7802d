from __future__ import annotations

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import OptionError, PairingError, RunError, ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import EvaluateOptions
from frugalseg.records.summary import SummaryRecord
from tests.accessible import assert_accessible
from tests.evaluation.blobs import AFFINE, LIVER, SHAPE, SPLEEN, labels, save, write_masks
from tests.records.files import old_file

GOOD = labels()
SHIFTED = labels(np.roll(LIVER, 1, axis=0))
SHIFTED_MORE = labels(np.roll(LIVER, 2, axis=0))
NO_SPLEEN = labels(spleen=np.zeros(SHAPE, bool))


def run(root, **options):
    defaults = {
        "predictions": root / "pred",
        "references": root / "ref",
        "out": root / "out",
        "target": ["liver=6", "spleen=1"],
        "bootstrap": 500,
        "workers": 2,
    }
    return evaluate(EvaluateOptions(**(defaults | options)))


def read(root, name):
    return json.loads((root / "out" / name).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six cases in six roles with a scan each; the trained one is perfect, one misses the spleen."""
    root = tmp_path_factory.mktemp("whole")
    masks = {
        "trained_1": GOOD,
        "chosen_2": GOOD,
        "seen_3": SHIFTED,
        "test_4": SHIFTED,
        "test_5": NO_SPLEEN,
        "fresh_6": SHIFTED,
    }
    roles = dict(zip(masks, ["train", "validation", "pretrain", "test", "test", "new"], strict=True))
    for case in masks:
        save(root / "images" / f"{case}.nii.gz", np.random.default_rng(0).normal(40, 30, SHAPE).astype(np.int16))
    model = root / "model"
    model.mkdir()
    (model / "config.yaml").write_text("budget: 3 scans\nencoder: null\nnote: <script>alert(1)</script>\n")
    (model / "environment.json").write_text(json.dumps({"command_line": ["frugalseg", "finetune", "--steps", "9"]}))
    (model / "metrics.jsonl").write_text('{"step": 1, "loss": 0.9}\n{"step": 2, "loss": 0.4, "dice": 0.8}\n')
    scale = {"kind": "ct", "low": -100, "high": 250}
    (model / "model.json").write_text(
        json.dumps(old_file("segmenter.model", preprocessing={"size": 32, "intensity": scale}))
    )
    images = {case: str(root / "images" / f"{case}.nii.gz") for case in masks}
    write_masks(root, masks, roles, images=images, model=str(model), settings={"flips": True})
    return root, run(root, slicewise=True)


def test_the_headline_is_over_unseen_scans_only(whole):
    _, summary = whole
    assert summary.headline == "unseen"
    assert summary.groups["unseen"].cases == ("fresh_6", "test_4", "test_5")
    assert summary.groups["masks_not_used"].cases == ("fresh_6", "seen_3", "test_4", "test_5")
    shifted = 7 / 8  # of 8 columns one moved out
    liver = summary.groups["unseen"].organs["liver"].metrics["dice"]
    assert liver.mean == pytest.approx((2 * shifted + 1) / 3)
    assert summary.groups["train"].organs["liver"].metrics["dice"].mean == 1.0


def test_a_missed_organ_is_counted_and_named(whole):
    _, summary = whole
    spleen = summary.groups["unseen"].organs["spleen"]
    assert spleen.counts == {"both": 2, "missed": 1, "false_positive": 0, "both_empty": 0}
    assert spleen.missed == ("test_5",)
    diagonal = float(np.linalg.norm(np.array(SHAPE) * np.abs(np.diag(AFFINE)[:3])))
    assert spleen.metrics["hd95_mm"].maximum == pytest.approx(diagonal)
    assert spleen.metrics["dice"].mean == pytest.approx(2 / 3)


def test_every_file_holds_every_case_the_policy_and_the_tolerance(whole):
    root, summary = whole
    assert SummaryRecord.read(root / "out" / "summary.json") == summary
    cases = read(root, "cases.json")
    assert [(r["case"], r["organ"]) for r in cases["cases"][:3]] == [
        ("chosen_2", "liver"),
        ("chosen_2", "spleen"),
        ("fresh_6", "liver"),
    ]
    assert cases["empty_mask_policy"] == summary.empty_mask_policy
    rows = list(csv.DictReader((root / "out" / "cases.csv").open(newline="")))
    assert len(rows) == len(cases["cases"]) == 12
    assert {row["tolerance_mm"] for row in rows} == {"3.0"}
    assert "missed: dice 0" in rows[0]["empty_mask_policy"]
    assert {"numpy", "scipy", "frugalseg"} <= summary.versions.keys()


def test_slicewise_metrics_are_reported_separately(whole):
    _, summary = whole
    organ = summary.groups["unseen"].organs["liver"]
    assert "dice_slice_smooth1" not in organ.metrics
    assert organ.slicewise_mean_over_slices["dice_slice_smooth1"] > organ.metrics["dice"].mean


def test_the_report_is_one_file_that_names_every_case_and_escapes_what_users_wrote(whole):
    root, _ = whole
    html = (root / "out" / "report.html").read_text()
    for text in ("trained_1", "test_5", "fresh_6", "organ missed", "--steps 9", "Fine-tuning: validation Dice"):
        assert text in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", html)
    assert not re.search(r"url\(\s*[\"']?https?:", html)
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in html
    assert html.count("data:image/png;base64,") >= 2 * 3 * 2
    assert "outlines on black" not in html
    assert "-100 to 250 HU".replace("-", "−") in html


def test_the_report_can_be_read_by_keyboard_screen_reader_and_phone(whole):
    root, _ = whole
    assert_accessible((root / "out" / "report.html").read_text())


def test_trained_cases_are_not_among_the_pictures(whole):
    root, _ = whole
    html = (root / "out" / "report.html").read_text()
    pictured = set(re.findall(r'alt="(\w+), ', html))
    assert pictured == {"fresh_6", "test_4", "test_5"}


def test_without_predictions_json_all_cases_are_one_group_and_the_pictures_are_black(tmp_path):
    summary = run(write_masks(tmp_path, {"a": GOOD, "b": SHIFTED}))
    assert summary.headline == "all"
    assert list(summary.groups) == ["all"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "outlines on black" in html
    assert "Make sure that none of these scans was used in training" in html


def test_a_model_judged_on_seen_scans_only_has_no_headline(tmp_path):
    summary = run(write_masks(tmp_path, {"a": GOOD, "b": GOOD}, {"a": "train", "b": "validation"}))
    assert summary.headline is None
    assert "There is no headline figure" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"a": "test", "b": "train"}, "mean over 1 scan: scans the model has never seen"),
        ({"a": "test", "b": "new"}, "mean over 2 scans: scans the model has never seen"),
        (None, "mean over 2 scans: all scans; which of them the model was trained on is not known"),
    ],
)
def test_the_headline_says_over_how_many_scans(tmp_path, capsys, roles, said):
    run(write_masks(tmp_path, {"a": GOOD, "b": GOOD}, roles), report=False)
    assert capsys.readouterr().out.startswith(said)


def test_one_case_has_no_interval(tmp_path):
    dice = run(write_masks(tmp_path, {"a": SHIFTED})).groups["all"].organs["liver"].metrics["dice"]
    assert (dice.n, dice.ci95, dice.sd) == (1, None, None)
    assert dice.ci95_kind == "no interval: 1 scan"


def test_two_scans_are_not_given_a_narrow_interval_anywhere(tmp_path, capsys):
    folder = write_masks(tmp_path, {"a": SHIFTED, "b": SHIFTED_MORE})
    summary = run(folder)
    dice = summary.groups["all"].organs["liver"].metrics["dice"]
    assert dice.minimum > dice.ci95[0]  # a percentile bootstrap of two ends at their two values
    assert dice.ci95[1] == 1.0
    assert dice.ci95_kind == "t interval, 2 scans"
    assert "Student's t below 30 scans" in summary.interval
    assert "  t interval, 2 scans" in capsys.readouterr().out
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert report.count("t interval, 2 scans") >= 2  # below the headline, and in the table


def test_workers_do_not_change_the_result(tmp_path):
    write_masks(tmp_path, {c: SHIFTED if c in "bd" else GOOD for c in "abcde"})
    one = run(tmp_path, workers=0, out=tmp_path / "one")
    many = run(tmp_path, workers=4, out=tmp_path / "many")
    assert one.groups == many.groups
    assert (tmp_path / "one" / "cases.csv").read_bytes() == (tmp_path / "many" / "cases.csv").read_bytes()


def test_a_missing_prediction_is_an_error(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": None, "c": GOOD})
    with pytest.raises(PairingError, match="1 references .* have no prediction .*: b"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_scan_that_could_not_be_predicted_is_named_in_every_result(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": None}, {"a": "test"}, failed={"b": "truncated <gzip>"})
    assert run(tmp_path).not_predicted == {"b": "truncated <gzip>"}
    assert "truncated &lt;gzip&gt;" in (tmp_path / "out" / "report.html").read_text()


def test_predictions_without_reference_are_named_and_change_no_figure(tmp_path):
    write_masks(tmp_path, {"a": GOOD})
    save(tmp_path / "pred" / "zebra.nii.gz", SHIFTED)
    summary = run(tmp_path)
    assert summary.no_reference == ("zebra",)
    assert summary.groups["all"].cases == ("a",)
    assert "1 prediction without a reference, not included: zebra" in (tmp_path / "out" / "report.html").read_text()


def test_no_pair_at_all_is_an_error(tmp_path):
    write_masks(tmp_path, {"a": None})
    save(tmp_path / "pred" / "z.nii.gz", GOOD)
    with pytest.raises(PairingError, match="predictions z; references a"):
        run(tmp_path)


def test_different_grids_are_an_error_after_the_others_are_done(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": GOOD})
    moved = AFFINE.copy()
    moved[0, 3] = 5
    save(tmp_path / "pred" / "b.nii.gz", GOOD, moved)
    with pytest.raises(PairingError, match="b: prediction and reference are on different grids"):
        run(tmp_path)
    assert read(tmp_path, "summary.json")["complete"] is False
    assert [r["case"] for r in read(tmp_path, "cases.json")["cases"]] == ["a", "a"]
    assert "This evaluation is not complete" in (tmp_path / "out" / "report.html").read_text()


def test_a_broken_file_is_an_error_after_the_others_are_done(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": GOOD})
    (tmp_path / "pred" / "b.nii.gz").write_bytes(b"not a scan")
    with pytest.raises(ScanError, match=r"1 of 2 cases(.|\n)*b\.nii\.gz"):
        run(tmp_path)
    assert list(read(tmp_path, "summary.json")["broken"]) == ["b"]


def test_a_target_that_no_reference_holds_is_an_error_that_names_what_they_hold(tmp_path):
    write_masks(tmp_path, {"a": GOOD})
    with pytest.raises(OptionError, match="label value 7 is in none of the references .they hold 1, 6."):
        run(tmp_path, target=["liver=6,7"])
    write_masks(tmp_path, {"a": GOOD}, {"a": "new"}, targets={"liver": [6, 7]})
    assert run(tmp_path, target=["liver=6,7"]).headline == "unseen"


def test_predictions_in_other_label_values_are_an_error(tmp_path):
    write_masks(tmp_path, {"a": np.where(LIVER, 2, 0).astype(np.uint8)})
    with pytest.raises(OptionError, match="no prediction holds a value of --target .1, 6.; they hold 2"):
        run(tmp_path)


def test_a_model_that_finds_nothing_is_a_result_not_an_error(tmp_path):
    summary = run(write_masks(tmp_path, {"a": np.zeros(SHAPE, np.uint8)}))
    assert summary.groups["all"].organs["liver"].counts["missed"] == 1


def test_a_false_positive_has_its_volume_reported(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": GOOD})
    save(tmp_path / "ref" / "b.nii.gz", NO_SPLEEN)
    spleen = run(tmp_path).groups["all"].organs["spleen"]
    assert spleen.false_positive_ml == {"b": pytest.approx(SPLEEN.sum() * 16 / 1000)}
    assert spleen.metrics["dice"].mean == 0.5
    assert (spleen.metrics["hd95_mm"].n, spleen.metrics["hd95_mm"].left_out) == (1, 1)
    assert "predicted where the reference holds none" in (tmp_path / "out" / "report.html").read_text()


def test_references_of_a_raw_data_set(tmp_path):
    write_masks(tmp_path, {"a": GOOD})
    (tmp_path / "raw").mkdir()
    (tmp_path / "ref").rename(tmp_path / "raw" / "labelsTr")
    assert run(tmp_path, references=tmp_path / "raw").complete


def test_masks_are_not_compared_with_themselves(tmp_path):
    write_masks(tmp_path, {"a": GOOD})
    with pytest.raises(PairingError, match="a: prediction and reference are the same file"):
        run(tmp_path, predictions=tmp_path / "ref")
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_refused_unless_overwritten(tmp_path):
    write_masks(tmp_path, {"a": GOOD})
    run(tmp_path)
    with pytest.raises(RunError, match="in use"):
        run(tmp_path)
    assert run(tmp_path, overwrite=True).complete


def test_pictures_come_from_the_given_folder_and_a_wrong_scan_is_named(tmp_path):
    write_masks(tmp_path, {"a": GOOD, "b": SHIFTED})
    save(tmp_path / "images" / "a.nii.gz", np.ones(SHAPE, np.int16))
    save(tmp_path / "images" / "b.nii.gz", np.ones((4, 4, 4), np.int16))
    run(tmp_path, images=tmp_path / "images")
    html = (tmp_path / "out" / "report.html").read_text()
    assert "b.nii.gz is on another grid" in html
    assert "No scan was given" not in html


def test_real_masks_against_themselves_and_shifted(shared_data, tmp_path):
    folder = shared_data / "hippocampus_mr"
    files = sorted((folder / "labels").glob("*.nii.gz"))[:3]
    (tmp_path / "ref").mkdir()
    for path in files:
        scan = nib.load(path)
        array = np.asarray(scan.dataobj).astype(np.uint8)
        (tmp_path / "ref" / path.name).symlink_to(path)
        save(tmp_path / "pred" / path.name, np.roll(array, 1, axis=0), scan.affine)
    summary = run(tmp_path, target=["anterior=1", "posterior=2"], images=folder / "images")
    anterior = summary.groups["all"].organs["anterior"].metrics
    assert 0.7 < anterior["dice"].mean < 1
    assert anterior["hd_mm"].maximum <= 1.01  # the shift, at 1 mm


def test_the_summary_is_on_standard_output_alone(tmp_path, capsys):
    run(write_masks(tmp_path, {"a": GOOD, "b": NO_SPLEEN}, {"a": "test", "b": "train"}), report=False)
    shown = capsys.readouterr()
    table = [line.split() for line in shown.out.splitlines()[1:]]
    assert table[0] == ["group", "scans", "organ", "Dice", "HD95", "mm", "95%", "interval"]
    assert table[1] == ["unseen", "1", "liver", "1.000", "0.0", "no", "interval:", "1", "scan"]
    assert ["train", "1", "spleen", "0.000"] in [row[:4] for row in table]
    assert "Dice" not in shown.err


def test_the_target_is_that_of_the_predictions(tmp_path):
    root = write_masks(tmp_path, {"a": GOOD}, {"a": "test"}, targets={"both": [6, 1]})
    run(root, target=[], report=False)
    summary = read(root, "summary.json")
    assert list(summary["groups"]["unseen"]["organs"]) == ["both"]
    assert summary["options"]["target"] == ["both=6,1"]


def test_without_a_target_anywhere_nothing_is_written(tmp_path):
    root = write_masks(tmp_path, {"a": GOOD}, None)
    with pytest.raises(OptionError, match="no predictions.json beside .*pred lists the label values"):
        run(root, target=[])
    assert not (root / "out").exists()


def test_a_folder_that_is_not_there_is_told_before_a_missing_target(tmp_path):
    root = write_masks(tmp_path, {"a": GOOD}, None)
    with pytest.raises(ScanError, match="nowhere does not exist"):
        run(root, target=[], predictions=root / "nowhere")


def test_two_masks_are_a_pair_whatever_they_are_called(tmp_path):
    save(tmp_path / "one" / "mine.nii.gz", GOOD)
    save(tmp_path / "other" / "doctor's.nii.gz", SHIFTED)
    pair = {"predictions": tmp_path / "one" / "mine.nii.gz", "references": tmp_path / "other" / "doctor's.nii.gz"}
    summary = run(tmp_path, **pair, report=False)
    assert summary.groups["all"].cases == ("mine",)
    assert summary.groups["all"].organs["liver"].metrics["dice"].mean == pytest.approx(7 / 8)
    with pytest.raises(PairingError, match="are the same file"):
        run(tmp_path, **pair | {"references": pair["predictions"]}, out=tmp_path / "second")


def test_a_file_and_a_folder_are_paired_by_name(tmp_path):
    root = write_masks(tmp_path, {"a": GOOD, "b": GOOD}, None)
    assert run(root, predictions=root / "pred" / "a.nii.gz", case=["a"], report=False).groups["all"].scans == 1
    save(tmp_path / "c.nii.gz", GOOD)
    with pytest.raises(PairingError, match="no prediction in .*c.nii.gz has a reference"):
        run(root, predictions=tmp_path / "c.nii.gz", out=tmp_path / "second")
