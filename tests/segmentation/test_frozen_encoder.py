"""Fine-tuning a decoder on the features of a frozen encoder: it learns, resumes exactly, and predicts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from frugalseg.commands.calibrate import calibrate
from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.augment import RECIPES
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.random_changes import draw
from frugalseg.errors import OptionError, RunError
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.models.saved import load_weights
from frugalseg.options import CalibrateOptions, FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation.architecture import STEPS, DecoderOnFeatures, WholeNetwork
from frugalseg.segmentation.predict import Predictor
from frugalseg.segmentation.presets import PRESETS
from frugalseg.segmentation.task import FinetuneTask
from tests.features.encoders import block_means
from tests.promptable.tiny_networks import sam, sam2
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with scans, a store of two organs, and the folder of an encoder."""
    root = tmp_path_factory.mktemp("frozen")
    images, labels = write_cohort(root, 6, shape=(32, 32, 10))
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6", "spleen=1"], size=32, out=root / "store"))
    sam().save_pretrained(root / "sam")
    return root


def options(root, out, **more) -> FinetuneOptions:
    given = {
        "data": root / "store",
        "backbone": str(root / "sam"),
        "budget": "2 scans",
        "steps": 6,
        "batch_size": 6,
        "copies": 0,
    }
    return FinetuneOptions(**{**given, **EXACT, **more}, out=out)


@pytest.fixture(scope="module")
def trained(cohort):
    """A run that has learned both organs; change nothing in it."""
    return finetune(options(cohort, cohort / "fit", steps=80)).path


def test_it_learns_both_organs_and_says_what_it_needs(cohort, trained):
    record = SegmenterRecord.read_run(trained)
    assert min(record.validation_dice_of_organs.values()) > 0.9
    encoder = FrozenEncoder.load(str(cohort / "sam"), torch.device("cpu"), "32")
    assert record.frozen_encoder == encoder.record
    assert record.backbone == record.frozen_encoder.model == str(cohort / "sam")
    weights = load_weights(trained)
    assert all(name.startswith("decoder.") for name in weights)
    trained_alone = [t for name, t in weights.items() if not name.endswith(("mean", "var", "tracked"))]
    assert record.parameters == sum(tensor.numel() for tensor in trained_alone)
    assert record.norm == "batch"


def test_its_confidence_is_calibrated_and_calibrated_again(cohort, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "fit")
    before = SegmenterRecord.read_run(trained)
    assert before.calibration["probabilities"].keys() == {"liver", "spleen"}
    content = json.loads((trained / "model.json").read_text())
    del content["calibration"]
    (tmp_path / "fit" / "model.json").write_text(json.dumps(content))
    calibrate(CalibrateOptions(model=tmp_path / "fit", data=cohort / "store", **EXACT))
    assert SegmenterRecord.read_run(tmp_path / "fit").calibration == before.calibration


@pytest.mark.parametrize(
    "way",
    [
        {"context": 1, "copies": 1},
        {"semi": "mean-teacher"},
        {"preset": "best"},
        {"preset": "paper", "steps": 4},
        {"norm": "instance_affine"},
    ],
    ids=str,
)
def test_all_that_finetune_does_works_on_features(cohort, tmp_path, way):
    run = finetune(options(cohort, tmp_path / "run", **way))
    made = predict(PredictOptions(model=run.path, images=cohort / "images", out=tmp_path / "masks", device="cpu"))
    assert len(made) == 6


def test_presets_are_shorter_and_change_features_less_than_slices():
    decoder, whole = DecoderOnFeatures(block_means(), torch.device("cpu")), WholeNetwork("unet", torch.device("cpu"))
    for name, preset in PRESETS.items():
        adapted = decoder.adapt(preset)
        assert whole.adapt(preset) is preset
        if name in ("robust", "best"):
            assert (adapted.steps, adapted.augment) == (STEPS, "features")
        else:
            assert adapted == preset  # as published
    angles = {
        kind: draw(RECIPES[kind].place, 400, torch.device("cpu"))["angle"].abs().max()
        for kind in ("features", "robust")
    }
    assert angles["features"] < 15.1 < angles["robust"]


def test_the_encoder_runs_once_a_slice_and_not_in_training(cohort, tmp_path, monkeypatch):
    encoded = []
    encode = FrozenEncoder._encode
    monkeypatch.setattr(FrozenEncoder, "_encode", lambda self, x: encoded.append(len(x)) or encode(self, x))
    finetune(options(cohort, tmp_path / "run", cache=tmp_path / "cache", preset="best"))
    assert sum(encoded) == 1 + 40  # the map's shape, three scans for training and one for validation
    encoded.clear()
    finetune(options(cohort, tmp_path / "again", cache=tmp_path / "cache", budget="1 scan"))
    assert sum(encoded) == 1


@pytest.mark.parametrize("way", [{"copies": 2}, {"preset": "best", "copies": 1}], ids=str)
def test_an_interrupted_training_is_resumed_exactly(cohort, tmp_path, monkeypatch, way):
    whole = finetune(options(cohort, tmp_path / "whole", validate_every=2, **way))
    done = []

    def dying(self):
        if len(done) == (9 if "preset" in way else 3):
            raise KeyboardInterrupt
        done.append(1)
        after(self)

    after = FinetuneTask.after_step
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTask, "after_step", dying)
        with pytest.raises(KeyboardInterrupt):
            finetune(options(cohort, tmp_path / "run", validate_every=2, **way))
    # Another folder of features: they are computed again, and the same.
    again = finetune(options(cohort, tmp_path / "run", validate_every=2, resume="yes", cache=tmp_path / "cache", **way))
    expected, found = load_weights(whole.path), load_weights(again.path)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_copies_are_encoded_once_and_seen_as_often_as_the_slices(cohort, tmp_path, monkeypatch):
    seen = []
    batches = FinetuneTask.batches
    monkeypatch.setattr(FinetuneTask, "batches", lambda self, epoch: seen.append(batches(self, epoch)) or seen[-1])
    finetune(options(cohort, tmp_path / "run", copies=2, context=1, steps=120, validate_every=120))
    rows = torch.cat([rows for epoch in seen for rows in epoch]).numpy()
    copied = (rows >= 60).mean()  # the store has 60 slices
    assert 0.55 < copied < 0.75
    assert len(set(rows[rows >= 60])) == 40
    with pytest.raises(OptionError, match="--copies 2 applies to frozen encoders only"):
        finetune(options(cohort, tmp_path / "unet", copies=2, backbone="unet"))


def test_an_interrupted_encoding_goes_on_where_it_stopped(cohort, tmp_path, monkeypatch):
    encode = FrozenEncoder._encode
    done = []

    def dying(self, slices):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(slices)
        return encode(self, slices)

    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "_encode", dying)
        with pytest.raises(KeyboardInterrupt):
            finetune(options(cohort, tmp_path / "run", cache=tmp_path / "cache"))
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(FrozenEncoder, "_encode", lambda self, x: done.append(x) or encode(self, x))
    finetune(options(cohort, tmp_path / "run", cache=tmp_path / "cache"))
    assert len(done) == 1 + 30 + 1  # the shape of the map is found anew


def test_a_second_prediction_of_the_same_scans_encodes_nothing(cohort, trained, tmp_path, monkeypatch):
    encode, done = FrozenEncoder._encode, []
    monkeypatch.setattr(FrozenEncoder, "_encode", lambda self, x: done.extend(x) or encode(self, x))
    given = {"model": trained, "images": cohort / "images", "case": ["scan_01", "scan_02"], **EXACT}
    predict(PredictOptions(**given, out=tmp_path / "one", cache=tmp_path / "cache"))
    assert len(done) == 20 + 1
    predict(PredictOptions(**given, out=tmp_path / "two", cache=tmp_path / "cache"))
    assert len(done) == 20 + 1
    predict(PredictOptions(**given, out=tmp_path / "none"))
    for case in ("scan_01", "scan_02"):
        masks = [np.asarray(read_volume(tmp_path / out / f"{case}.nii.gz").array) for out in ("one", "two", "none")]
        assert np.array_equal(masks[0], masks[1])
        assert np.array_equal(masks[0], masks[2])
    unet = finetune(options(cohort, tmp_path / "unet", backbone="unet", copies=None, steps=2))
    with pytest.raises(OptionError, match="--cache .* has no frozen encoder"):
        predict(PredictOptions(**{**given, "model": unet.path}, out=tmp_path / "no", cache=tmp_path / "cache"))
    before = len(done)
    for first, second in ((trained, unet.path), (unet.path, trained)):  # a mean of which one has the encoder
        both = {**given, "model": [first, second], "out": tmp_path / first.name / "mean"}
        predict(PredictOptions(**both, cache=tmp_path / "cache"))
    assert len(done) == before


def test_prediction_is_what_the_network_finds_in_the_store(cohort, trained, tmp_path):
    predictor = Predictor.load(
        PredictOptions(model=trained, images=cohort / "images", out=tmp_path, keep="all", **EXACT)
    )
    mask = predictor.segment(read_volume(cohort / "images" / "scan_02.nii.gz"))
    found = axial_slices(canonical(mask)[0].array)
    from frugalseg.dataset.store import SliceStore

    store = SliceStore.open(cohort / "store")
    rows = store.slices.index[store.slices["case"] == "scan_02"].to_numpy()
    slices = torch.from_numpy(store.images[rows].astype(np.float32))
    with torch.no_grad():
        logits = predictor.network(slices[:, None], predictor.network.frozen(slices))
    classes = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).argmax(dim=1).numpy()
    assert (classes > 0).mean() > 0.02
    values = np.array([0, 6, 1])[classes]
    assert (values != found).mean() < 2e-3  # the store holds slices in float16


def test_another_encoder_than_that_of_the_training_is_refused(cohort, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    moved = json.loads((run / "model.json").read_text())
    moved["frozen_encoder"]["model"] = str(tmp_path / "sam")
    (run / "model.json").write_text(json.dumps(moved))
    given = {"model": run, "images": cohort / "images", "case": ["scan_01"], **EXACT}
    with pytest.raises(OptionError, match="unknown weights .*no such name, file or folder"):
        predict(PredictOptions(**given, out=tmp_path / "gone"))
    sam(seed=1).save_pretrained(tmp_path / "sam")
    with pytest.raises(RunError, match="was trained on features of SAM .sam. with signature .*, given is SAM .sam."):
        predict(PredictOptions(**given, out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    predict(PredictOptions(**given, out=tmp_path / "given", backbone=str(cohort / "sam")))
    sam2().save_pretrained(tmp_path / "sam2")
    with pytest.raises(RunError, match="given is SAM 2"):
        predict(PredictOptions(**given, out=tmp_path / "sam 2", backbone=str(tmp_path / "sam2")))


def test_a_backbone_to_predict_with_is_for_frozen_encoders_only(cohort, tmp_path):
    run = finetune(options(cohort, tmp_path / "unet", backbone="unet", copies=None, steps=2))
    with pytest.raises(OptionError, match=r"--backbone sam: .*unet has no frozen encoder"):
        predict(PredictOptions(model=run.path, images=cohort / "images", out=tmp_path / "masks", backbone="sam"))


def test_what_is_no_encoder_is_refused_before_any_work(cohort, tmp_path):
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RunError, match="holds a model of type 'bert', expected one of sam"):
        finetune(options(cohort, tmp_path / "run", backbone=str(bert)))
    with pytest.raises(OptionError, match="--backbone vnet: unknown weights 'vnet'") as caught:
        finetune(options(cohort, tmp_path / "run", backbone="vnet"))
    assert "resnet18-unet" in caught.value.cure
    assert "litemedsam" in caught.value.cure
    with pytest.raises(OptionError, match="is a frozen encoder with weights of its own"):
        finetune(options(cohort, tmp_path / "run", weights=tmp_path / "weights.pth"))
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_installed_are_told_with_the_way_to_install_them(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path / "home"))
    with pytest.raises(RunError, match="the weights litemedsam are not installed") as caught:
        finetune(options(cohort, tmp_path / "run", backbone="litemedsam"))
    assert "frugalseg weights" in caught.value.cure
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_sam_2(cohort, tmp_path):
    sam2().save_pretrained(tmp_path / "sam2")
    run = finetune(options(cohort, tmp_path / "run", backbone=str(tmp_path / "sam2"), steps=2))
    assert SegmenterRecord.read_run(run.path).frozen_encoder.name == "SAM 2 (sam2)"
