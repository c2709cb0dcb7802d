"""Training on tiny scans: run folder, what learns, resumption, bad input."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.run import RunFolder
from frugalseg.errors import InterruptedRunError, OptionError, RunError, SplitError
from frugalseg.options import PrepareOptions
from frugalseg.records.sam_mix import SamMixRecord, SamMixSettings
from frugalseg.records.split import Split
from frugalseg.sam_mix.checkpoint import build_mix_model, load_mix
from frugalseg.sam_mix.task import MixTask, MixTrainingSet
from frugalseg.sam_mix.train import sam_mix_train, select_training_set
from tests.scans import AFFINE_LPS, write_cohort

CPU = torch.device("cpu")


def test_the_run_folder_holds_the_trained_weights_without_the_base(options, cohort, tmp_path):
    run = sam_mix_train(options(out=tmp_path / "run", lora_rank=4, validate_every=3))
    files = {path.name for path in run.path.iterdir()}
    assert {"classifier.safetensors", "decoder.safetensors", "lora.safetensors", "model.json"} <= files
    assert not (run.path / "model.safetensors").exists()
    record = SamMixRecord.read_run(run.path)
    lora = load_file(run.path / "lora.safetensors")
    assert sum(tensor.numel() for tensor in lora.values()) == record.trained["lora"] == 2 * 2 * 4 * 2 * 16
    with safe_open(run.path / "lora.safetensors", framework="pt") as file:
        assert file.metadata() == {"base": record.base.signature}
    assert asdict(record.annotation) == {
        "budget": "5 slices",
        "draw": 0,
        "masks": 5,
        "mask_scans": 3,
        "organ_present_labels": 30,
        "organ_present_scans": 3,
        "validation_scans": 1,
        "validation_masks": 10,
    }
    roles = [scan.role for scan in record.scans]
    assert sorted(roles) == ["test", "test", "train", "train", "train", "validation"]
    records = run.read_records()
    assert [record["step"] for record in records] == [3, 6]
    assert {"class_loss", "mask_loss", "score_loss", "dice", "auroc_liver", "specificity_liver"} <= records[0].keys()
    weights = sum((run.path / f"{part}.safetensors").stat().st_size for part in ("classifier", "decoder", "lora"))
    assert weights < 1.2 * 4 * sum(record.trained.values()) + 30_000


def test_lora_decoder_and_classifier_have_moved_and_the_base_has_not(options, cohort, tmp_path):
    run = sam_mix_train(options(out=tmp_path / "run", steps=2))
    record = SamMixRecord.read_run(run.path)
    trained = load_mix(run.path, record, None, CPU)
    lora = load_file(run.path / "lora.safetensors")
    assert all(tensor.abs().sum() > 0 for name, tensor in lora.items() if "lora_B" in name)
    base = load_file(cohort / "sam" / "model.safetensors")
    fused = base["vision_encoder.layers.0.attn.qkv.weight"]
    split = trained.branch.image_encoder.layers[0].attn.qkv
    assert torch.equal(fused[:16], split.queries.base_layer.weight)
    assert torch.equal(fused[16:32], split.keys.weight)
    decoder = load_file(run.path / "decoder.safetensors")
    name = "mask_decoder.transformer.layers.0.mlp.lin1.weight"
    assert not torch.equal(decoder[f"branch.{name}"], base[name])


@pytest.mark.parametrize(
    "more",
    [
        {"adapt": "decoder", "precision": "bf16"},
        {"adapt": "lora", "precision": "bf16", "dense_prompt": "added"},
        {"adapt": "decoder", "self_training": True, "dense_prompt": "none"},
        {"adapt": "decoder", "map_weight": 0.0},
        {"adapt": "decoder", "mask_loss": "dice"},
    ],
)
def test_other_ways_of_training(options, tmp_path, more, monkeypatch):
    # Tiny random models are sure of nothing: here everything counts as sure.
    monkeypatch.setattr("frugalseg.sam_mix.task.CONFIDENT", -100.0)
    run = sam_mix_train(options(out=tmp_path / "run", steps=2, **more))
    record = run.read_records()[-1]
    assert np.isfinite(record["loss"])
    if "self_training" in more:
        assert record["self_loss"] > 0
    assert (record["map_loss"] > 0) == ("map_weight" not in more)
    counted = record["dice_loss"] + 0.05 * record["score_loss"]
    counted += record["ce_loss"] if more.get("mask_loss") != "dice" else 0
    assert record["mask_loss"] == pytest.approx(counted, rel=1e-5)


def test_two_organs_have_one_classifier_output_and_one_prompt_each(options, cohort, tmp_path):
    run = sam_mix_train(options(out=tmp_path / "run", data=cohort / "store", steps=2, adapt="decoder"))
    record = SamMixRecord.read_run(run.path)
    assert record.settings.organs == 2
    assert set(record.keep) == set(record.focal.alpha) == {"liver", "spleen"}
    assert load_file(run.path / "classifier.safetensors")["classifier.head.weight"].shape[0] == 2
    assert "auroc_spleen" in run.read_records()[-1]


@pytest.mark.parametrize("adapt", ["lora", "decoder"])
def test_a_run_that_is_stopped_and_resumed_is_the_unbroken_one(options, tmp_path, monkeypatch, adapt):
    whole = sam_mix_train(options(out=tmp_path / "whole", adapt=adapt, steps=4, validate_every=2))
    losses = MixTask.losses
    calls = []

    def dying(self, model, batch):
        calls.append(batch)
        if len(calls) == 4:
            raise InterruptedRunError("stopped", "resume")
        return losses(self, model, batch)

    broken = options(out=tmp_path / "broken", adapt=adapt, steps=4, validate_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(MixTask, "losses", dying)
        with pytest.raises(InterruptedRunError):
            sam_mix_train(broken)
    assert not (tmp_path / "broken" / "model.json").exists()
    with pytest.raises(RunError, match="has not finished"):
        SamMixRecord.read_run(tmp_path / "broken")
    resumed = sam_mix_train(options(out=tmp_path / "broken", adapt=adapt, steps=4, validate_every=2, resume="yes"))
    for part in ("classifier", "decoder", *(["lora"] if adapt == "lora" else [])):
        one, other = (load_file(run.path / f"{part}.safetensors") for run in (whole, resumed))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [r["loss"] for r in whole.read_records()] == [r["loss"] for r in resumed.read_records()]


def test_a_checkpoint_holds_nothing_of_the_frozen_encoder(options, tmp_path):
    run = sam_mix_train(options(out=tmp_path / "run", steps=1, adapt="decoder"))
    saved = torch.load(run.last, weights_only=True)["model"]
    assert not any("image_encoder" in name for name in saved)


def test_the_base_must_be_the_one_of_the_training(options, cohort, tmp_path):
    from tests.promptable.tiny_networks import sam

    run = sam_mix_train(options(out=tmp_path / "run", steps=1, adapt="decoder"))
    sam(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(RunError, match="the base model of the training|trained on SAM"):
        load_mix(run.path, SamMixRecord.read_run(run.path), str(tmp_path / "other"), CPU)
    (run.path / "decoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="decoder.safetensors cannot be read"):
        load_mix(run.path, SamMixRecord.read_run(run.path), None, CPU)


@pytest.mark.parametrize("kept", ["positive", "negative"])
def test_a_classifier_needs_slices_with_and_without_the_organ(options, cohort, tmp_path, monkeypatch, kept):
    opened = SliceStore.open(cohort / "liver")
    table = opened.slices.copy()
    table["has_liver"] = kept == "positive"
    monkeypatch.setattr(SliceStore, "open", lambda folder: SliceStore(folder, opened.record, table))
    message = "all of the 30 training slices show liver" if kept == "positive" else "show a target|none of the"
    with pytest.raises(SplitError, match=message):
        sam_mix_train(options(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """A store of scans whose liver ends in one voxel, which is lost in resizing; two scans show no liver."""
    root = tmp_path_factory.mktemp("ends")
    images, labels = write_cohort(root, 8, shape=(128, 128, 8))
    for path in labels.iterdir():
        mask = np.zeros((128, 128, 8), np.uint8)
        if path.name not in ("scan_00.nii.gz", "scan_01.nii.gz"):
            mask[40:80, 40:80, 2:5] = 6
            mask[40, 40, 5] = 6
        nib.save(nib.Nifti1Image(mask, AFFINE_LPS), path)
    (root / "split.json").write_text(json.dumps({"train": [f"scan_{i:02d}" for i in range(8)]}))
    split = root / "split.json"
    return prepare(
        PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, split=split, out=root / "store")
    )


def test_slices_whose_mask_is_lost_in_resizing_teach_no_mask(ends, options, tmp_path):
    shown = np.flatnonzero(ends.slices["has_liver"])
    assert sum(not ends.labels[row].any() for row in shown) == 6
    given = options(out=tmp_path / "run")
    training = select_training_set(ends, ends.split(), given, Budget.parse("100%"))
    assert [bool(ends.labels[row].any()) for row in training.labelled] == [True] * 18


def test_a_budget_without_the_organ_is_refused(ends, options, tmp_path):
    """Training on any other slice would use masks outside the budget."""
    split, budget = ends.split(), Budget.parse("1 scans")
    shows = ends.slices["has_liver"]
    draws = [draw_labels(ends.slices, split.train, budget, draw, ends.presence_columns) for draw in range(20)]
    empty = next(draw for draw, rows in enumerate(draws) if not shows[rows].any())
    given = options(out=tmp_path / "run", budget="1 scans", label_draw=empty)
    with pytest.raises(SplitError, match="none of 8 labelled slices shows liver") as raised:
        select_training_set(ends, split, given, budget)
    assert "another --label-draw" in raised.value.cure


def test_all_middle_slices_may_be_positive_and_the_error_says_what_to_do(options, tmp_path):
    with pytest.raises(SplitError, match="all of .* show liver") as raised:
        sam_mix_train(options(out=tmp_path / "run", middle_fraction=0.2, budget="2 slices"))
    assert "--middle-fraction" in raised.value.cure


def test_a_missing_base_is_reported_before_the_folder_is_claimed(options, tmp_path):
    with pytest.raises(OptionError, match="unknown weights"):
        sam_mix_train(options(out=tmp_path / "run", base=str(tmp_path / "nowhere")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"context": 1}, "--context 1"),
        ({"map_threshold": 0.0}, "--map-threshold 0"),
        ({"classifier_size": 100}, "--classifier-size 100"),
        ({"map_stride": 8}, "--map-stride 8"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"lora_rank": 0}, "--lora-rank 0"),
        ({"masks_per_step": 0}, "--masks-per-step 0"),
        ({"focal_alpha": 1.0}, "--focal-alpha 1"),
        ({"label_draw": -1}, "--label-draw -1"),
        ({"map_weight": -1.0}, "--map-weight -1"),
    ],
)
def test_options_that_make_no_sense(options, tmp_path, more, message):
    with pytest.raises(OptionError, match=message):
        options(out=tmp_path, **more)


@pytest.mark.parametrize("dense", ["mask", "none"])
def test_new_parameters_have_their_own_learning_rate(options, cohort, tmp_path, dense):
    settings = options(out=tmp_path, dense_prompt=dense)
    store = SliceStore.open(Path(settings.data))
    built = SamMixSettings(adapt="lora", rank=2, dense=dense, threshold=0.4, classifier_size=64, organs=1, size=32)
    model = build_mix_model(built, str(cohort / "sam"), CPU)
    source = SliceSource(store, CPU, with_labels=True)
    training = MixTrainingSet(np.arange(len(store.slices)), np.arange(2), (0.5,))
    task = MixTask(settings, model, store, store.split(), source, training, None)
    new, brought = (group["params"] for group in task.optimizer.param_groups)
    assert [group["max_lr"] for group in task.optimizer.param_groups] == [settings.classifier_lr, settings.lr]
    assert type(task.optimizer) is torch.optim.Adam
    assert {group["weight_decay"] for group in task.optimizer.param_groups} == {0}
    assert len(new) == len(list(model.classifier.parameters())) + (dense == "mask")
    assert any(p is model.branch.share for p in new) == (dense == "mask")
    learning = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in [*new, *brought]} == {id(p) for p in learning}
    assert len(new) + len(brought) == len(learning)


def test_only_training_patients_and_the_budgets_masks_are_used(options, cohort, tmp_path, monkeypatch):
    seen = []
    stream = MixTask.stream

    def noting(self, batches):
        seen.extend(batches)
        return stream(self, batches)

    monkeypatch.setattr(MixTask, "stream", noting)
    settings = options(out=tmp_path / "run", budget="2 slices", adapt="decoder", steps=6)
    run = sam_mix_train(settings)
    store = SliceStore.open(Path(settings.data))
    split: Split = store.split()
    table: pd.DataFrame = store.slices
    rows = torch.stack(seen)
    taught, labelled = rows[:, : settings.batch_size].flatten(), rows[:, settings.batch_size :].flatten()
    assert set(table.loc[taught.numpy(), "patient"]) <= set(split.train)
    assert len(set(labelled.tolist())) == 2
    assert table.loc[labelled.numpy(), "has_liver"].all()
    assert json.loads((run.path / "model.json").read_text())["annotation"]["masks"] == 2
    assert isinstance(run, RunFolder)
