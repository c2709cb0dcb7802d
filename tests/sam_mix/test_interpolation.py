"""Interpolation of the trained branch towards the base's weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.records.sam_mix import SamMixRecord
from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.checkpoint import build_mix_model
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.model import MixModel
from frugalseg.sam_mix.train import sam_mix_train
from frugalseg.sam_mix.validate import MixValidation
from tests.sam_mix.test_branch import tiny_sam

CPU = torch.device("cpu")


def copied(state):
    return {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize("best", [0.25, 0.75, 1.0])
def test_the_interpolation_with_the_highest_validation_dice_is_chosen(cohort, monkeypatch, best):
    store = SliceStore.open(cohort / "liver")
    validation = MixValidation.with_features(
        store, store.split().validation, SliceSource(store, CPU, with_labels=True), "32", None
    )
    model = MixModel(Classifier(1, 64), SamBranch(tiny_sam(), "lora", 2, "mask", 0.4), 32, 0.4)
    before, classifier = copied(model.branch.state_dict()), copied(model.classifier.state_dict())
    with torch.no_grad():
        for value in model.branch.state_dict().values():
            value.add_(torch.randn_like(value))
    learned = copied(model.branch.state_dict())

    def between(way):
        start = {name: learned[name] if "lora_A" in name else before[name] for name in learned}
        return {name: start[name] + way * (learned[name] - start[name]) for name in learned}

    def evaluate(self, judged):
        state = judged.branch.state_dict()
        away = sum((state[name] - wanted).abs().sum() for name, wanted in between(best).items())
        return {"score": -float(away)}

    monkeypatch.setattr(MixValidation, "evaluate", evaluate)
    way, figures = validation.interpolate_to_base(model, before, evaluate(None, model))
    assert way == best
    assert figures["score"] == pytest.approx(0, abs=1e-2)
    for name, value in model.branch.state_dict().items():
        assert torch.allclose(value, between(best)[name], atol=1e-6), name
    assert all(torch.equal(value, classifier[name]) for name, value in model.classifier.state_dict().items())


@pytest.mark.parametrize("adapt", ["decoder", "lora"])
def test_the_weights_of_a_run_are_the_chosen_interpolation(options, cohort, tmp_path, monkeypatch, adapt):
    monkeypatch.setattr("frugalseg.sam_mix.validate.INTERPOLATION_FACTORS", (0.5,))
    monkeypatch.setattr(MixValidation, "evaluate", lambda self, model: {"score": next(scores)})
    scores = iter([0.3, 0.4])  # of the only validation, and half-way back
    settings = options(out=tmp_path / "run", adapt=adapt, steps=3, validate_every=3)
    run = sam_mix_train(settings)
    record = SamMixRecord.read_run(run.path)
    assert (record.interpolation, record.validation_dice) == (0.5, 0.4)
    torch.manual_seed(settings.seed)
    start = build_mix_model(record.settings, str(cohort / "sam"), CPU).branch.state_dict()
    learned = load_checkpoint(run.best)["model"]
    kept = load_file(run.path / "decoder.safetensors")
    if adapt == "lora":
        kept |= load_file(run.path / "lora.safetensors")
    moved = 0.0
    for name, value in start.items():
        end = learned[f"branch.{name}"]
        expected = end if "lora_A" in name else (value + end) / 2
        assert torch.allclose(kept[f"branch.{name}"], expected, atol=1e-6), name
        moved += float((end - value).abs().sum())
    assert moved > 0
    assert record.map_factor == pytest.approx(float(kept["branch.share"]))


@pytest.mark.parametrize(("half_way", "kept"), [(0.4, 0.4), (0.2, 0.3)], ids=["interpolated", "as trained"])
def test_the_record_has_the_dice_of_each_organ_of_the_weights_kept(options, tmp_path, monkeypatch, half_way, kept):
    monkeypatch.setattr("frugalseg.sam_mix.validate.INTERPOLATION_FACTORS", (0.5,))
    scores = iter([0.3, half_way])
    monkeypatch.setattr(MixValidation, "evaluate", lambda *_: {"score": (dice := next(scores)), "dice_liver": dice})
    record = SamMixRecord.read_run(sam_mix_train(options(out=tmp_path / "run", steps=3, validate_every=3)).path)
    assert record.validation_dice_of_organs == {"liver": kept}
    assert record.validation_dice == kept


def test_a_resumed_run_interpolates_to_the_same_base(options, tmp_path, monkeypatch):
    monkeypatch.setattr("frugalseg.sam_mix.validate.INTERPOLATION_FACTORS", (0.5,))
    scores = iter([0.3, 0.4] * 2)
    monkeypatch.setattr(MixValidation, "evaluate", lambda self, model: {"score": next(scores)})
    run = sam_mix_train(options(out=tmp_path / "run", steps=3, validate_every=3))
    files = ("model.json", "decoder.safetensors", "lora.safetensors")
    before = {name: (run.path / name).read_bytes() for name in files}
    for name in files:  # as if it had been stopped just before the end
        (run.path / name).unlink()
    next(scores)
    again = sam_mix_train(options(out=tmp_path / "run", steps=3, validate_every=3, resume="yes"))
    assert {name: (again.path / name).read_bytes() for name in files} == before
