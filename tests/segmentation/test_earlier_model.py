"""Starting a training from an earlier model: its weights, what is recorded, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, RunError, SplitError
from frugalseg.models.saved import load_weights
from frugalseg.options import FinetuneOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from tests.promptable.tiny_networks import sam
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with a store, the folder of an encoder, and a model `first` on its features."""
    root = tmp_path_factory.mktemp("warm")
    images, labels = write_cohort(root, 6, shape=(32, 32, 10))
    scans = {"images": images, "labels": labels, "size": 32}
    prepare(PrepareOptions(**scans, target=["liver=6"], out=root / "store"))
    prepare(PrepareOptions(**scans, target=["spleen=1"], out=root / "spleen"))
    prepare(PrepareOptions(**scans, target=["liver=6"], window=(-100.0, 300.0), out=root / "window"))
    sam().save_pretrained(root / "sam")
    finetune(options(root, root / "first", steps=60))
    return root


def options(root, out, **more) -> FinetuneOptions:
    given = {"data": root / "store", "backbone": str(root / "sam"), "budget": "1 scan", "batch_size": 6, "steps": 2}
    return FinetuneOptions(**{**given, **more}, out=out, device="cpu", precision="32")


def test_training_goes_on_from_the_weights_of_the_earlier_model(cohort, tmp_path):
    run = finetune(options(cohort, tmp_path / "run", init=cohort / "first", lr=1e-9))
    before, after = load_weights(cohort / "first"), load_weights(run.path)
    assert all(
        torch.allclose(after[name], before[name], atol=1e-6) for name in before if name.endswith(("weight", "bias"))
    )
    cold = finetune(options(cohort, tmp_path / "cold", budget="2 scans", steps=4))
    warm = finetune(options(cohort, tmp_path / "warm", budget="2 scans", steps=4, init=cohort / "first"))
    dice = [SegmenterRecord.read_run(run.path).validation_dice for run in (cold, warm)]
    assert dice[1] > 0.6 > dice[0]


def test_the_earlier_model_and_its_scans_are_recorded(cohort, tmp_path):
    first = SegmenterRecord.read_run(cohort / "first")
    second = finetune(options(cohort, tmp_path / "second", init=cohort / "first", label_draw=2))
    record = SegmenterRecord.read_run(second.path)
    assert record.initial_model.model == str(cohort / "first")
    assert record.initial_model.masks == first.annotation.masks == 10
    trained = {scan.case for scan in record.scans if scan.role == "train"}
    assert trained >= {scan.case for scan in first.scans if scan.role == "train"}
    assert len(trained) == 2
    third = finetune(options(cohort, tmp_path / "third", init=second.path))
    assert SegmenterRecord.read_run(third.path).initial_model.masks == 20


def test_a_resumed_run_needs_the_same_start(cohort, tmp_path):
    given = options(cohort, tmp_path / "run", init=cohort / "first", steps=4)
    finetune(given)
    (tmp_path / "run" / "model.json").unlink()
    other = finetune(options(cohort, tmp_path / "other", init=cohort / "first"))
    with pytest.raises(RunError, match="other data"):
        finetune(replace(given, init=other.path, resume="yes"))
    finetune(replace(given, resume="yes"))


def test_models_that_do_not_fit_are_refused_before_any_work(cohort, tmp_path):
    def refused(error, match, **more):
        with pytest.raises(error, match=match):
            finetune(options(cohort, tmp_path / "run", **{"init": cohort / "first", **more}))
        assert not (tmp_path / "run").exists()

    refused(OptionError, "segments liver; .*spleen has labels of spleen", data=cohort / "spleen")
    refused(OptionError, "expects intensities scaled by", data=cohort / "window")
    refused(OptionError, "this training unet", backbone="unet")
    refused(RunError, "does not fit this training's network", context=1)
    refused(RunError, "does not fit this training's network", norm="instance_affine")
    refused(RunError, "holds no trained model", init=cohort / "store")
    sam(seed=1).save_pretrained(tmp_path / "sam")
    refused(OptionError, "has the backbone", backbone=str(tmp_path / "sam"))
    with pytest.raises(OptionError, match="--init was given with --encoder or --weights"):
        options(cohort, tmp_path / "run", init=cohort / "first", encoder=cohort / "first")


def test_a_model_that_knows_held_out_scans_is_refused(cohort, tmp_path):
    split = SliceStore.open(cohort / "store").split()
    used = next(scan.case for scan in SegmenterRecord.read_run(cohort / "first").scans if scan.role == "train")
    (chosen_by,) = split.validation
    for part, patient in (("validation", used), ("test", used), ("test", chosen_by)):
        others = [one for one in (*split.train, *split.validation, *split.test) if one != patient]
        (tmp_path / "split.json").write_text(
            json.dumps({"train": others, "validation": [], "test": [], **{part: [patient]}})
        )
        with pytest.raises(SplitError, match=f"has used scans that are held out here: {patient}"):
            finetune(options(cohort, tmp_path / "run", init=cohort / "first", split=tmp_path / "split.json"))


def test_a_whole_network_can_be_continued_too(cohort, tmp_path):
    first = finetune(options(cohort, tmp_path / "first", backbone="unet", steps=2))
    run = finetune(options(cohort, tmp_path / "second", backbone="unet", init=first.path, lr=1e-9))
    before, after = load_weights(first.path), load_weights(run.path)
    assert all(torch.allclose(after[name], tensor, atol=1e-6) for name, tensor in before.items())


def test_a_teacher_of_another_backbone_labels_what_is_unlabelled(cohort, tmp_path, monkeypatch):
    """A network that has learned nothing itself learns from the masks of a better one."""
    given = {"backbone": "unet", "steps": 80, "lr": 3e-3}
    alone = finetune(options(cohort, tmp_path / "alone", **given, budget="1 slice"))
    run = finetune(
        options(cohort, tmp_path / "run", **given, budget="1 slice", semi="self-training", teacher=cohort / "first")
    )
    assert not (run.path / "rounds").exists()
    dice = [SegmenterRecord.read_run(one.path).validation_dice for one in (alone, run)]
    assert dice[1] > dice[0] + 0.1
    record = SegmenterRecord.read_run(run.path)
    assert (record.teacher.model, record.teacher.masks) == (str(cohort / "first"), 10)
    assert record.initial_model is None
    trained = {scan.case for scan in SegmenterRecord.read_run(cohort / "first").scans if scan.role == "train"}
    assert {scan.case for scan in record.scans if scan.role == "train"} >= trained
    sam(seed=1).save_pretrained(tmp_path / "sam")
    other = json.loads((cohort / "first" / "model.json").read_text())
    other["frozen_encoder"]["model"] = str(tmp_path / "sam")
    moved = shutil.copytree(cohort / "first", tmp_path / "moved")
    (moved / "model.json").write_text(json.dumps(other))
    with pytest.raises(RunError, match="was trained on features of"):
        finetune(options(cohort, tmp_path / "not", **given, semi="self-training", teacher=moved))
    assert not (tmp_path / "not").exists()


def test_a_teacher_that_does_not_fit_is_refused(cohort, tmp_path):
    def refused(error, match, **more):
        with pytest.raises(error, match=match):
            finetune(options(cohort, tmp_path / "run", **{"teacher": cohort / "first", "preset": "best", **more}))
        assert not (tmp_path / "run").exists()

    refused(OptionError, "--teacher .* applies to self-training of one round only", preset="robust")
    refused(OptionError, "--teacher .* applies to self-training of one round only", rounds=1)
    refused(OptionError, "--teacher .* segments liver", data=cohort / "spleen")
    refused(OptionError, "has a context of 0, this training of 1", context=1)
    larger = {"images": cohort / "images", "labels": cohort / "labels", "target": ["liver=6"], "size": 64}
    prepare(PrepareOptions(**larger, out=tmp_path / "larger"))
    refused(OptionError, "trained on slices of 32 pixels, the store has 64", data=tmp_path / "larger")
