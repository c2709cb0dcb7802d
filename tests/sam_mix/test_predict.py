"""Masks of whole scans: no ground truth in the call, the scan's grid, evaluation, the oracle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.cli import main
from frugalseg.commands.table import COMMANDS
from frugalseg.errors import OptionError, PairingError, RunError, ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.options import EvaluateOptions, SamMixEvaluateOptions, SamMixPredictOptions
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.sam_mix.evaluate import sam_mix_evaluate
from frugalseg.sam_mix.predict import MixPredictor, sam_mix_predict
from tests.imaging.segments.series import write_as_dicom
from tests.padded import check_shown, record_shown, write_padded_mr


def wish(trained, cohort, out, **more):
    settings = {"model": trained, "images": cohort / "images", "out": out, "device": "cpu", "precision": "32"}
    return SamMixPredictOptions(**(settings | more))


def values(folder, case="scan_02"):
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def test_the_call_has_no_place_for_ground_truth_but_the_oracle_s():
    names = set(COMMANDS["sam-mix predict"].options.__dataclass_fields__)
    assert names == {
        *("model", "images", "out", "base", "keep", "oracle", "batch_size", "device", "precision", "case", "target"),
        *("overwrite", "resume", "threads", "modality", "ray", "output_type", "segment_codes", "preview"),
        *("series", "scan_boxes"),
    }
    assert COMMANDS["sam-mix predict"].options.__dataclass_fields__["oracle"].default is None


def test_masks_from_images_only_on_the_scans_grid(trained, cohort, tmp_path):
    alone = tmp_path / "scans"
    alone.mkdir()
    shutil.copy(cohort / "images" / "scan_02.nii.gz", alone)
    done = sam_mix_predict(wish(trained, cohort, tmp_path / "out", images=alone))
    assert list(done) == ["scan_02"]
    mask, scan = (nib.load(f / "scan_02.nii.gz") for f in (tmp_path / "out", alone))
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    assert set(np.unique(values(tmp_path / "out"))) <= {0, 1, 6}
    note = json.loads((tmp_path / "out" / PREDICTIONS_FILE).read_text())
    assert note["settings"]["prompts"] == "classifier"
    assert note["roles"] == {"scan_02": "test"}
    present = note["present"]["scan_02"]
    assert present.keys() == {"liver", "spleen"}
    assert len(present["liver"]) == scan.shape[2]
    assert all(0 <= p <= 1 for p in present["liver"])


def test_an_organ_that_the_classifier_does_not_see_has_an_empty_mask(trained, cohort):
    predictor = MixPredictor.from_options(wish(trained, cohort, cohort / "unused"))
    scan = read_volume(cohort / "images" / "scan_02.nii.gz")
    with torch.no_grad():
        predictor.network.classifier.head.weight.mul_(1e-3)
        predictor.network.classifier.head.bias.copy_(torch.tensor([5.0, -5.0]))
    segmented = predictor.segment_with_presence(scan)
    assert 1 not in np.unique(segmented.mask.array)
    assert (segmented.present[:, 0] > 0.9).all()
    with torch.no_grad():
        predictor.network.classifier.head.bias.fill_(-5.0)
    assert not predictor.segment(scan).array.any()


def test_blank_slices_show_no_organ(trained, cohort):
    """Whatever the classifier says of them, as scans may be padded with slices."""
    predictor = MixPredictor.from_options(wish(trained, cohort, cohort / "unused"))
    with torch.no_grad():
        predictor.network.classifier.head.bias.fill_(50.0)
    scan = read_volume(cohort / "images" / "scan_02.nii.gz")
    array = scan.array.copy()
    array[:, :, -2:] = -125
    found = predictor.segment_with_presence(scan.with_array(array))
    assert (found.present[:-2] > 0.9).all()
    assert not found.present[-2:].any()
    assert not found.mask.array[:, :, -2:].any()


def test_padding_of_a_series_is_out_of_the_picture(trained, cohort, tmp_path, monkeypatch):
    predictor = MixPredictor.from_options(wish(trained, cohort, tmp_path))
    predictor = replace(predictor, intensity=IntensityScale("mr", 0.5, 99.5))
    scan = read_volume(write_padded_mr(tmp_path / "p1"))
    seen = record_shown(monkeypatch)
    assert predictor.segment(scan).padding is None
    check_shown(np.concatenate(seen))


def test_the_batch_size_changes_nothing(trained, cohort):
    scan = read_volume(cohort / "images" / "scan_02.nii.gz")
    masks = [
        MixPredictor.from_options(wish(trained, cohort, cohort / "unused", batch_size=n)).segment(scan).array
        for n in (3, 100)
    ]
    assert np.array_equal(*masks)


def test_the_oracle_reads_references_by_the_label_values_that_are_written(trained, cohort, tmp_path):
    other = tmp_path / "labels"
    other.mkdir()
    for path in (cohort / "labels").iterdir():
        mask = nib.load(path)
        array = np.asarray(mask.dataobj)
        renamed = np.select([array == 6, array == 1], [1, 9], 0).astype(np.uint8)  # the spleen's 1 is the liver's now
        nib.save(nib.Nifti1Image(renamed, mask.affine), other / path.name)
    given = {"case": ["scan_02"], "keep": "all"}
    sam_mix_predict(wish(trained, cohort, tmp_path / "own", oracle=cohort / "labels", **given))
    sam_mix_predict(wish(trained, cohort, tmp_path / "others", oracle=other, target=["liver=1", "spleen=9"], **given))
    own, others = values(tmp_path / "own"), values(tmp_path / "others")
    assert own.any()
    assert np.array_equal(others, np.select([own == 6, own == 1], [1, 9], 0))
    sam_mix_predict(wish(trained, cohort, tmp_path / "one", oracle=other, target=["liver=1"], **given))
    assert set(np.unique(values(tmp_path / "one"))) <= {0, 1}


def test_a_scan_is_segmented_again_where_the_reference_of_its_boxes_was_changed(trained, cohort, tmp_path, capsys):
    shutil.copytree(cohort / "labels", tmp_path / "references")
    given = {"case": ["scan_02", "scan_03"], "oracle": tmp_path / "references", "keep": "all"}
    sam_mix_predict(wish(trained, cohort, tmp_path / "out", **given))
    changed = tmp_path / "references" / "scan_02.nii.gz"
    mask = nib.load(changed)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[::-1].copy(), mask.affine), changed)
    sam_mix_predict(wish(trained, cohort, tmp_path / "out", resume="yes", **given))
    said = capsys.readouterr().err
    assert "scan_02: the input mask has changed" in said
    assert "scan_03: the input mask has changed" not in said


def test_evaluate_reads_the_masks_and_reports_the_oracle_separately(trained, cohort, tmp_path):
    sam_mix_predict(wish(trained, cohort, tmp_path / "cam"))
    sam_mix_predict(wish(trained, cohort, tmp_path / "oracle", oracle=cohort / "labels", keep="all"))
    note = json.loads((tmp_path / "oracle" / PREDICTIONS_FILE).read_text())
    assert note["settings"]["prompts"].startswith("oracle")
    for name in ("cam", "oracle"):
        judged = evaluate(
            EvaluateOptions(
                predictions=tmp_path / name,
                references=cohort / "labels",
                out=tmp_path / f"eval-{name}",
                target=["liver=6", "spleen=1"],
                bootstrap=20,
                workers=0,
                report=name == "cam",
            )
        )
        assert judged.complete
        assert judged.headline == "unseen"
        assert judged.groups["unseen"].scans == 2
    with pytest.raises(RunError, match="prompts: classifier then, oracle"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "cam", oracle=cohort / "labels", resume="yes"))


def test_masks_that_are_dicom_objects_are_judged_alike(trained, cohort, tmp_path):
    for case in ("scan_02", "scan_05"):
        write_as_dicom(cohort / "images" / f"{case}.nii.gz", tmp_path / "series" / case)
    figures = []
    for kind in ("scan", "dicom-seg"):
        out = tmp_path / kind
        sam_mix_predict(wish(trained, cohort, out, images=tmp_path / "series", output_type=kind, modality="ct"))
        wanted = SamMixEvaluateOptions(predictions=out, references=cohort / "labels", out=tmp_path / f"{kind}.json")
        figures.append(sam_mix_evaluate(wanted))
    assert figures[0] == figures[1]
    assert figures[0]["unseen"]["liver"]["slices"]["positives"] > 0


def test_the_classifier_is_judged_by_slice_and_by_scan(trained, cohort, tmp_path):
    sam_mix_predict(wish(trained, cohort, tmp_path / "cam", case=["scan_02", "scan_03", "scan_05"]))
    wanted = SamMixEvaluateOptions(
        predictions=tmp_path / "cam", references=cohort / "labels", out=tmp_path / "presence.json"
    )
    figures = sam_mix_evaluate(wanted)
    assert figures["unseen"]["cases"] == ["scan_02", "scan_05"]
    assert json.loads((tmp_path / "presence.json").read_text()) == figures
    slices, scans = figures["all"]["liver"]["slices"], figures["all"]["liver"]["scans"]
    assert slices["positives"] + slices["negatives"] == 30
    assert (scans["positives"], scans["negatives"], scans["specificity"]) == (3, 0, None)
    told = json.loads((tmp_path / "cam" / PREDICTIONS_FILE).read_text())["present"]
    there = np.concatenate([(values(cohort / "labels", case) == 6).any(axis=(0, 1)) for case in told])
    p = np.concatenate([told[case]["liver"] for case in told])
    assert slices["sensitivity"] == pytest.approx((p[there] >= 0.5).mean())
    (tmp_path / "turned").mkdir()
    for case in told:
        mask = nib.load(cohort / "labels" / f"{case}.nii.gz")
        nib.save(
            mask.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]], float)), tmp_path / "turned" / f"{case}.nii.gz"
        )
    again = replace(wanted, references=tmp_path / "turned", out=tmp_path / "turned.json")
    assert sam_mix_evaluate(again) == figures
    with pytest.raises(RunError, match="exists"):
        sam_mix_evaluate(wanted)
    with pytest.raises(RunError, match="no prediction of SAM-Mix"):
        sam_mix_evaluate(replace(wanted, predictions=tmp_path, out=tmp_path / "b.json"))


def test_an_oracle_without_a_scan_s_mask_is_refused(trained, cohort, tmp_path):
    masks = tmp_path / "labels"
    masks.mkdir()
    shutil.copy(cohort / "labels" / "scan_02.nii.gz", masks)
    with pytest.raises(PairingError, match="--oracle .* no mask of scan_00"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "out", oracle=masks))
    assert list(sam_mix_predict(wish(trained, cohort, tmp_path / "out", oracle=masks, case=["scan_02"]))) == ["scan_02"]


def test_an_oracle_of_floats_in_a_raw_data_set_is_read_as_labels(trained, cohort, tmp_path):
    masks = tmp_path / "raw" / "labelsTr"
    masks.mkdir(parents=True)
    mask = nib.load(cohort / "labels" / "scan_02.nii.gz")
    array = np.asarray(mask.dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(np.where(array == 6, np.float32(5.9999), array), mask.affine), masks / "scan_02.nii.gz")
    given = {"case": ["scan_02"], "keep": "all"}
    sam_mix_predict(wish(trained, cohort, tmp_path / "whole", oracle=cohort / "labels", **given))
    sam_mix_predict(wish(trained, cohort, tmp_path / "floats", oracle=tmp_path / "raw", **given))
    assert (values(tmp_path / "whole") == 6).any()
    assert np.array_equal(values(tmp_path / "whole"), values(tmp_path / "floats"))


def test_an_oracle_is_not_the_scans_themselves(trained, cohort, tmp_path):
    with pytest.raises(PairingError, match="scan_00: image and label are the same file"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "out", oracle=cohort / "images"))


def test_other_label_values_and_unknown_names(trained, cohort, tmp_path):
    sam_mix_predict(wish(trained, cohort, tmp_path / "out", case=["scan_02"], target=["liver=2"]))
    assert set(np.unique(values(tmp_path / "out"))) <= {0, 2}
    with pytest.raises(OptionError, match="kidney"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "no", target=["kidney=2"]))
    with pytest.raises(OptionError, match="scan_99"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "no", case=["scan_99"]))


def test_another_kind_of_run_is_refused(cohort, tmp_path):
    (tmp_path / "model.json").write_text('{"kind": "segmenter"}')
    with pytest.raises(RunError, match="kind 'segmenter'"):
        sam_mix_predict(wish(tmp_path, cohort, tmp_path / "out"))


def test_the_command_line(trained, cohort, tmp_path, capsys):
    flags = ["--model", trained, "--images", cohort / "images", "--out", tmp_path / "out", "--device", "cpu"]
    assert main(["sam-mix", "predict", *map(str, flags), "--case", "scan_02"]) == 0
    assert (tmp_path / "out" / "scan_02.nii.gz").is_file()
    assert main(["sam-mix"]) == 2
    assert "sam-mix train" in capsys.readouterr().err


def test_scans_of_another_modality_are_refused(trained, cohort, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    image = nib.load(cohort / "images" / "scan_02.nii.gz")
    nib.save(nib.Nifti1Image((np.asarray(image.dataobj) + 1024).clip(0), image.affine), scans / "x.nii.gz")
    with pytest.raises(ScanError, match="x is MR .values from 0 .*; the model was trained on CT"):
        sam_mix_predict(wish(trained, cohort, tmp_path / "out", images=scans))
    told = wish(trained, cohort, tmp_path / "out", images=scans, modality="ct", resume="auto")
    assert list(sam_mix_predict(told)) == ["x"]
    with pytest.raises(OptionError, match="--modality mr"):
        sam_mix_predict(replace(told, modality="mr"))
