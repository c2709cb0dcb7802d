"""A light decoder on the frozen encoder of a pre-training run."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import OptionError, RunError, SplitError
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.features.pretrained import STRIDE
from frugalseg.models.registry import build_encoder
from frugalseg.models.saved import load_encoder, load_weights, save_model
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions, PretrainOptions
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.records.networks import EncoderRecord, SegmenterRecord
from tests.scans import write_cohort

CPU = torch.device("cpu")
EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with scans, a store, and a pre-training run."""
    root = tmp_path_factory.mktemp("pretraining")
    images, labels = write_cohort(root, 6, shape=(32, 32, 10))
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))
    given = {"data": root / "store", "method": "polycl-m", "steps": 2, "batch_size": 4, "context": 0}
    pretrain(PretrainOptions(**given, **EXACT, out=root / "encoder"))
    return root


def options(root, out, **more) -> FinetuneOptions:
    given = {"data": root / "store", "backbone": str(root / "encoder"), "budget": "1 scans", "steps": 4}
    return FinetuneOptions(**{**given, **EXACT, **more}, out=out)


def test_the_map_joins_all_maps_of_the_encoder_at_a_quarter_of_the_slice(cohort):
    slices = torch.rand(2, 32, 32).half().float()
    encoder = build_encoder("unet", EncoderRecord.read_run(cohort / "encoder").norm).eval()
    load_encoder(encoder, cohort / "encoder")
    made = FrozenEncoder.load(str(cohort / "encoder"), CPU, "32")(slices)
    with torch.no_grad():
        maps = encoder(slices[:, None])
    start = 0
    for one in maps:
        part = made[:, start : start + one.shape[1]]
        shrink = one.shape[-1] * STRIDE // 32
        size = (8, 8)
        expected = F.avg_pool2d(one, shrink) if shrink > 1 else F.interpolate(one, size, mode="bilinear")
        assert torch.allclose(part, expected, atol=2e-3)
        start += one.shape[1]
    assert start == made.shape[1] == sum(encoder.channels)


def test_it_trains_a_decoder_alone_and_predicts(cohort, tmp_path):
    run = finetune(options(cohort, tmp_path / "run"))
    record = SegmenterRecord.read_run(run.path)
    assert record.frozen_encoder is not None
    assert record.frozen_encoder.model == str(cohort / "encoder")
    assert record.annotation.pretraining == EncoderRecord.read_run(cohort / "encoder").annotation
    assert all(name.startswith("decoder.") for name in load_weights(run.path))
    made = predict(PredictOptions(model=run.path, images=cohort / "images", out=tmp_path / "masks", device="cpu"))
    assert len(made) == 6


def test_an_encoder_with_other_weights_is_refused(cohort, tmp_path):
    shutil.copytree(cohort / "encoder", tmp_path / "encoder")
    run = finetune(options(cohort, tmp_path / "run", backbone=str(tmp_path / "encoder")))
    encoder = build_encoder("unet", EncoderRecord.read_run(cohort / "encoder").norm)
    wrapped = torch.nn.ModuleDict({"encoder": encoder})
    save_model(tmp_path / "encoder", wrapped, EncoderRecord.read_run(cohort / "encoder"))
    with pytest.raises(RunError, match="trained on features of unet, polycl-m with signature"):
        predict(PredictOptions(model=run.path, images=cohort / "images", out=tmp_path / "masks", device="cpu"))


def test_an_encoder_that_has_seen_the_test_scans_is_refused(cohort, tmp_path):
    split = cohort / "store" / "split.json"
    content = split.read_text()
    other = tmp_path / "split.json"
    other.write_text(content.replace('"train"', '"swap"').replace('"test"', '"train"').replace('"swap"', '"test"'))
    with pytest.raises(SplitError, match="pre-trained on scans that are held out"):
        finetune(options(cohort, tmp_path / "run", split=other))


def test_the_name_of_a_model_is_no_run_of_that_name_in_the_working_folder(cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort / "encoder", tmp_path / "litemedsam")
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path / "empty"))
    with pytest.raises(RunError, match="litemedsam"):
        finetune(options(cohort, tmp_path / "run", backbone="litemedsam"))
    run = finetune(options(cohort, tmp_path / "run", backbone="./litemedsam"))
    record = SegmenterRecord.read_run(run.path)
    assert record.frozen_encoder is not None
    assert record.frozen_encoder.model == str(tmp_path / "litemedsam")


def test_an_encoder_of_several_slices_and_other_runs_are_refused(cohort, tmp_path):
    given = {"data": cohort / "store", "method": "polycl-m", "steps": 1, "batch_size": 4, "context": 1}
    pretrain(PretrainOptions(**given, **EXACT, out=tmp_path / "context"))
    with pytest.raises(OptionError, match="--context 1"):
        finetune(options(cohort, tmp_path / "run", backbone=str(tmp_path / "context")))
    model = finetune(options(cohort, tmp_path / "model")).path
    with pytest.raises(RunError, match="holds a model of kind 'segmenter'"):
        finetune(options(cohort, tmp_path / "other", backbone=str(model)))
