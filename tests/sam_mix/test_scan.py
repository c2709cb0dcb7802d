"""Whole scans: each slice by itself, or organs followed across slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.options import SamMixPredictOptions
from frugalseg.records.model import SamMixRecord
from frugalseg.sam_mix import scan
from frugalseg.sam_mix.across_slices import Plane
from frugalseg.sam_mix.predict import MixPredictor
from frugalseg.sam_mix.scan import ScanSegmenter
from frugalseg.sam_mix.validate import MixValidation
from tests.sam_mix.test_model import certain, model

DEPTH = 5


def segmenter(mix, at_once=2, **more):
    torch.manual_seed(1)
    slices = torch.rand(DEPTH, 1, 32, 32)
    return slices, ScanSegmenter(mix, "32", lambda numbers: slices[numbers], DEPTH, at_once, **more)


def joined(batches):
    return [torch.cat(part) for part in zip(*batches, strict=True)]


def test_slices_by_themselves_are_as_the_model_finds_them():
    mix = certain(model(), 5.0, -5.0)
    slices, of_scan = segmenter(mix)
    numbers, present, planes, scores = joined(of_scan.by_slice())
    found = mix.find(slices)
    assert numbers.tolist() == list(range(DEPTH))
    assert torch.allclose(present, found.present, atol=1e-6)
    assert torch.allclose(planes, found.planes()[0], atol=1e-4)
    assert torch.allclose(scores, found.planes()[1], atol=1e-4)


def test_a_followed_organ_has_the_masks_that_were_followed_and_the_others_their_own(monkeypatch):
    mix = certain(model(), 5.0, 5.0)
    slices, of_scan = segmenter(mix)
    own = mix.find(slices)
    own_masks = own.planes()[0][:, 1].numpy() > 0.5
    given = {}

    def follow(masks, confidence, evidence):
        given.update(masks=masks, confidence=confidence, evidence=evidence)
        logits = np.full((32, 32), -3, np.float32)
        logits[4:9, 10:12] = 3
        return {1: Plane(logits, 0.25), 4: Plane(-logits, 0.5)}

    monkeypatch.setattr(scan, "follow_organ", follow)
    _, present, planes, scores = joined(of_scan.across_slices([False, True]))
    assert torch.allclose(planes[:, 0], own.planes()[0][:, 0], atol=1e-3)
    assert (planes[1, 1] > 0.5).nonzero().amin(dim=0).tolist() == [4, 10]
    assert int((planes[1, 1] > 0.5).sum()) == 10
    assert int((planes[4, 1] > 0.5).sum()) == 32 * 32 - 10
    assert not planes[[0, 2, 3], 1].any()
    assert scores[:, 1].tolist() == [0, 0.25, 0, 0, 0.5]
    assert torch.allclose(present, own.present, atol=1e-6)
    assert np.mean(given["masks"] == own_masks) > 0.99  # the remembered maps are rounded
    assert 0.1 < own_masks.mean() < 0.9
    expected = own.present[:, 1] * own.planes()[1][:, 1].clamp(0, 1)
    assert np.allclose(given["confidence"], expected.numpy(), atol=1e-3)


def test_the_next_slice_is_segmented_in_the_expanded_boxes_of_the_components(monkeypatch):
    mix = certain(model(1), 5.0)
    _, of_scan = segmenter(mix)
    asked = {}

    def decode(maps, boxes, cams):
        asked["boxes"] = boxes
        return torch.zeros(len(boxes), 4, 32, 32), torch.zeros(len(boxes), 4)

    def follow(masks, confidence, evidence):
        monkeypatch.setattr(mix, "decode", decode)
        components = np.zeros((2, 32, 32), dtype=bool)
        components[0, 4:8, 6:10], components[1, 20:24, 12:16] = True, True
        evidence.decode(3, components)
        return {}

    monkeypatch.setattr(scan, "follow_organ", follow)
    list(of_scan.across_slices([True]))
    outward = 32 * 20 / 1024 / 2
    expected = torch.tensor([[6.0, 4, 10, 8], [12, 20, 16, 24]]) + outward * torch.tensor([-1.0, -1, 1, 1])
    torch.testing.assert_close(asked["boxes"], expected)


def test_each_slice_is_encoded_once(monkeypatch):
    mix = certain(model(1), 5.0)
    _, of_scan = segmenter(mix)
    encoded, encode = [], mix.encode
    monkeypatch.setattr(mix, "encode", lambda slices: encoded.append(len(slices)) or encode(slices))
    joined(of_scan.across_slices([True]))
    assert encoded == [1] * len(encoded)
    assert len(encoded) <= DEPTH


def test_blank_slices_show_nothing():
    mix = certain(model(1), 5.0)
    slices, of_scan = segmenter(mix)
    slices[2] = 0.25
    _, present, planes, _ = joined(of_scan.by_slice())
    assert present[2] == 0
    assert not planes[2].any()
    assert (present[[0, 1, 3, 4]] > 0.9).all()


def test_the_validation_scans_choose_which_organs_are_followed(cohort, monkeypatch):
    """Here the liver is better when followed, the spleen when not."""
    store = SliceStore.open(cohort / "store")
    source = SliceSource(store, torch.device("cpu"), with_labels=True)
    validation = MixValidation.with_features(store, store.split().validation, source, "32", None)

    def predict(self, model, case):
        reference = source.gather(self.cases[case]).labels.numpy()
        better = (reference == 1) & self.across[0] | (reference == 2) & (not self.across[1])
        return np.where(better, reference, 0).astype(np.uint8), reference

    monkeypatch.setattr(MixValidation, "predict", predict)
    assert validation.choose_across_slices(model()) == {"liver": True, "spleen": False}


def test_the_choice_of_the_model_is_used_unless_another_is_given(cohort, trained, monkeypatch):
    record = SamMixRecord.read_run(trained)
    monkeypatch.setattr(
        SamMixRecord, "read_run", lambda _: replace(record, across_slices={"liver": True, "spleen": False})
    )
    ways = {}
    for choice in ("model", "yes", "no"):
        given = SamMixPredictOptions(
            model=trained, images=cohort, out=cohort / "unused", device="cpu", precision="32", across_slices=choice
        )
        ways[choice] = MixPredictor.from_options(given).across
    assert ways == {"model": (True, False), "yes": (True, True), "no": (False, False)}
