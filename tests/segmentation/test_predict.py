"""Predicting chosen scans, with other label values, and going on after a kill."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.confidence.soft_mask import SoftMask, SoftSlices
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import sha256
from frugalseg.engine.lock import LOCK
from frugalseg.errors import OptionError, PairingError, RunError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.segmentation.ensemble import Ensemble, closest_role
from frugalseg.segmentation.losses import probabilities
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.predict import Predictor, slices_at_once
from tests.padded import check_shown, record_shown, write_padded_mr
from tests.processes import try_lock
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with scans and a model of their liver and spleen."""
    root = tmp_path_factory.mktemp("predict")
    images, labels = write_cohort(root, 5, shape=(32, 32, 6))
    target = ["liver=6", "spleen=1"]
    prepare(PrepareOptions(images=images, labels=labels, target=target, size=32, out=root / "store"))
    exact = {"device": "cpu", "precision": "32"}
    finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=40, budget="3 scans", **exact))
    return root


def options(root, out, also=(), **more) -> PredictOptions:
    return PredictOptions(
        model=[root / "fit", *also], images=root / "images", out=out, device="cpu", precision="32", **more
    )


def values(folder, case="scan_01"):
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def test_chosen_scans_alone_are_predicted_and_compared(model, tmp_path):
    out = tmp_path / "masks"
    assert list(predict(options(model, out, case=["scan_03", "scan_01"]))) == ["scan_03", "scan_01"]
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["scan_01.nii.gz", "scan_03.nii.gz"]
    evaluation = EvaluateOptions(
        predictions=out, references=model / "labels", out=tmp_path / "eval", target=["liver=6"]
    )
    with pytest.raises(PairingError, match="3 references .* have no prediction"):
        evaluate(evaluation)
    summary = evaluate(replace(evaluation, case=["scan_03", "scan_01"], report=False))
    assert summary.complete
    made = {path.name for path in (tmp_path / "eval").iterdir()} - {".lock"}
    assert made == {"cases.csv", "cases.json", "summary.json"}
    with pytest.raises(PairingError, match="scan_9"):
        evaluate(replace(evaluation, case=["scan_9"]))
    with pytest.raises(PairingError, match="1 references .* have no prediction"):
        evaluate(replace(evaluation, case=["scan_01", "scan_02"]))
    with pytest.raises(OptionError, match="scan_9"):
        predict(options(model, tmp_path / "none", case=["scan_9"]))


def test_a_finished_training_lets_go_of_its_folder(model, tmp_path):
    settings = FinetuneOptions(
        data=model / "store", out=tmp_path / "fit", steps=2, budget="1 scan", semi="self-training", device="cpu"
    )
    run = finetune(settings)
    assert run.finished
    for folder in (run.path, run.path / "rounds" / "0"):
        assert (folder / LOCK).is_file()
        assert try_lock(folder) == "free"
    with pytest.raises(RunError, match=r"--out .*model.json is a file"):
        finetune(replace(settings, out=run.path / "model.json"))


def test_several_models_are_averaged(model, tmp_path, capsys):
    """By the definition: the probabilities of both networks, and post-processing on their mean."""
    other = {"data": model / "store", "device": "cpu", "precision": "32", "budget": "2 scans"}
    finetune(FinetuneOptions(out=tmp_path / "context", steps=20, context=1, seed=1, **other))
    several = options(model, tmp_path / "masks", also=[tmp_path / "context"], case=["scan_01"], keep="all")
    predict(several)
    assert "the mean of several models is not calibrated" in capsys.readouterr().err
    record = json.loads((tmp_path / "masks" / PREDICTIONS_FILE).read_text())
    assert record["settings"]["average_with"] == [sha256(tmp_path / "context" / "model.safetensors")]
    runs = {run: SegmenterRecord.read_run(run) for run in (model / "fit", tmp_path / "context")}
    stack = torch.from_numpy(slices_of(model, "scan_01")).float()
    around = torch.stack([stack[(torch.arange(6) + offset).clamp(0, 5)] for offset in (-1, 0, 1)], dim=1)
    mean = torch.zeros(6, 2, 32, 32)
    for (run, own), images in zip(runs.items(), (stack[:, None], around), strict=True):
        with torch.inference_mode():
            mean += probabilities(load_segmenter(run, own, torch.device("cpu"), "32")(images)) / 2
    expected = torch.cat([1 - mean.sum(dim=1, keepdim=True), mean], dim=1).argmax(dim=1).numpy()
    found = axial_slices(canonical(read_volume(tmp_path / "masks" / "scan_01.nii.gz"))[0].array)
    assert expected.any()
    assert np.mean(found == np.array([0, 6, 1])[expected]) > 0.995  # the store holds float16
    with pytest.raises(RunError, match="other options .average_with"):
        predict(replace(several, model=model / "fit", resume="yes"))


def slices_of(model, case):
    """The slices of a scan as `prepare` made them, (Z, S, S)."""
    store = SliceStore.open(model / "store")
    return np.array(store.images[store.slices.index[store.slices["case"] == case]])


def test_models_that_do_not_fit_are_not_averaged(model, tmp_path):
    prepare(
        PrepareOptions(
            images=model / "images", labels=model / "labels", target=["liver=6"], size=32, out=tmp_path / "s"
        )
    )
    finetune(FinetuneOptions(data=tmp_path / "s", out=tmp_path / "liver", steps=2, budget="2 scans", device="cpu"))
    with pytest.raises(OptionError, match=r"--model .*liver: its organs are \['liver'\]"):
        predict(options(model, tmp_path / "masks", also=[tmp_path / "liver"]))
    with pytest.raises(RunError, match="no finished fine-tuning|holds no"):
        predict(options(model, tmp_path / "masks", also=[tmp_path / "nothing"]))


def test_confidence_is_lower_where_the_models_disagree():
    """Each is certain; only that the other says something else can lower the confidence."""

    def certain(column: int) -> torch.nn.Module:
        network = torch.nn.Conv2d(1, 1, 1)
        logits = torch.full((1, 1, 8, 8), -20.0)
        logits[..., column:] = 20
        network.forward = lambda images: logits.expand(len(images), -1, -1, -1)
        return network

    def confidence(*columns: int) -> float:
        mean = probabilities(Ensemble([certain(c) for c in columns], [0] * len(columns))(torch.zeros(2, 1, 8, 8)))
        return SoftMask.join([SoftSlices.of(mean)], ["all"]).overlaps_with_probabilities()[0].dice_of_scan()

    assert confidence(4, 4, 4) == pytest.approx(1, abs=1e-3)
    assert confidence(4, 4, 5) == pytest.approx(2 * (3 + 2 / 3) / (4 + 3 + 2 / 3), abs=1e-3)
    assert confidence(4, 4, 7) < confidence(4, 4, 5) < confidence(4, 4, 4)


def test_wrong_lists_of_models_and_angles_are_refused(tmp_path):
    for given, said in (
        ({"model": []}, "names no run"),
        ({"model": [tmp_path, tmp_path]}, "twice"),
        ({"model": tmp_path, "tta_degrees": 60.0}, "above 45"),
        ({"model": tmp_path, "tta_degrees": 0.0}, "expected a number above 0"),
    ):
        with pytest.raises(OptionError, match=said):
            PredictOptions(images=tmp_path, out=tmp_path / "out", **given)


def test_a_scan_that_one_of_the_models_was_trained_on_is_no_test_scan():
    assert closest_role(["test", "train"]) == "train"
    assert closest_role(["new", "pretrain"]) == "pretrain"
    assert closest_role(["test", "test"]) == "test"


def test_blank_slices_show_no_organ(model, tmp_path, monkeypatch):
    """Whatever the network says of them, as scans may be padded with slices."""
    everywhere = torch.nn.Conv2d(1, 2, 1)
    torch.nn.init.constant_(everywhere.bias, 9.0)
    monkeypatch.setattr("frugalseg.segmentation.predict.load_segmenter", lambda *_: everywhere)
    image = nib.load(model / "images" / "scan_01.nii.gz")
    array = np.array(image.dataobj)
    array[:, :, -2:] = -125
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(array, image.affine), tmp_path / "images" / "padded.nii.gz")
    predict(replace(options(model, tmp_path / "masks", keep="all"), images=tmp_path / "images"))
    shown = (values(tmp_path / "masks", "padded") > 0).any(axis=(0, 1))
    assert shown[:-2].all()
    assert not shown[-2:].any()


def test_other_label_values_and_fewer_organs(model, tmp_path):
    predict(options(model, tmp_path / "all", case=["scan_01"]))
    predict(options(model, tmp_path / "liver", case=["scan_01"], target=["liver=2,3"]))
    whole, liver = values(tmp_path / "all"), values(tmp_path / "liver")
    assert (whole == 6).any()
    assert np.array_equal(liver == 2, whole == 6)
    assert set(np.unique(liver)) == {0, 2}
    assert json.loads((tmp_path / "liver" / PREDICTIONS_FILE).read_text())["targets"] == {"liver": [2, 3]}
    with pytest.raises(OptionError, match="kidney: the model was not trained on it"):
        predict(options(model, tmp_path / "none", target=["kidney=2"]))


def test_a_killed_prediction_goes_on_scan_by_scan(model, tmp_path, monkeypatch):

    whole = predict(options(model, tmp_path / "whole"))
    segmented = []
    segment = Predictor.segment_with_confidence

    def dying(self, volume, *more):
        if len(segmented) == 2:
            raise KeyboardInterrupt
        segmented.append(volume)
        return segment(self, volume, *more)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "segment_with_confidence", dying)
        with pytest.raises(KeyboardInterrupt):
            predict(options(model, out, resume="auto"))
    assert len(segmented) == 2
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    with pytest.raises(RunError, match="in use"):
        predict(options(model, out))
    with pytest.raises(RunError, match="flips: False then, True now"):
        predict(options(model, out, resume="yes", tta=True))
    assert list(predict(options(model, out, resume="yes"))) == list(whole)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert kept.items() <= after.items()
    for case in whole:
        assert np.array_equal(values(out, case), values(tmp_path / "whole", case))
    notes = [json.loads((folder / PREDICTIONS_FILE).read_text()) for folder in (out, tmp_path / "whole")]
    assert notes[0]["roles"] == notes[1]["roles"]
    with pytest.raises(RunError, match="holds no prediction to resume"):
        predict(options(model, tmp_path / "new", resume="yes"))


def test_probabilities_and_previews_wanted_later_are_made_of_finished_scans_too(model, tmp_path):
    out = tmp_path / "out"
    cases = list(predict(options(model, out)))
    wanted = {"resume": "yes", "probabilities": True, "preview": True}
    predict(options(model, out, **wanted))
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.parent != out}
    organs = [f"probabilities/{case}.{name}.nii.gz" for case in cases for name in ("liver", "spleen", "uncertainty")]
    assert names == {*organs, *(f"previews/{case}.{kind}" for case in cases for kind in ("png", "html"))}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    predict(options(model, out, **wanted))
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} == before


def test_padding_of_a_series_is_out_of_the_picture(model, tmp_path, monkeypatch):
    predictor = replace(Predictor.load(options(model, tmp_path)), intensity=IntensityScale("mr", 0.5, 99.5))
    scan = read_volume(write_padded_mr(tmp_path / "p1"))
    seen = record_shown(monkeypatch)
    mask = predictor.segment(scan)
    check_shown(np.concatenate(seen))
    assert mask.padding is None


@pytest.mark.parametrize(
    ("device", "size", "expected"), [("cpu", 512, 4), ("cuda", 256, 32), ("cuda", 128, 128), ("cuda", 2048, 1)]
)
def test_a_gpu_gets_as_many_pixels_at_every_size(device, size, expected):
    assert slices_at_once(torch.device(device), size) == expected
