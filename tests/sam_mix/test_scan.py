"""Whole scans: each slice by itself, or with boxes from the masks of the whole scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError
from frugalseg.options import SamMixPredictOptions
from frugalseg.records.sam_mix import SamMixRecord
from frugalseg.sam_mix import scan
from frugalseg.sam_mix.model import select_best
from frugalseg.sam_mix.predict import MixPredictor
from frugalseg.sam_mix.prompts import MAX_SHIFT
from frugalseg.sam_mix.scan import ScanSegmenter, surround
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


def rectangle(shape, rows, columns):
    mask = np.zeros(shape, dtype=bool)
    mask[..., rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def rows_of(mask):
    return mask.any(axis=1).nonzero()[0][[0, -1]].tolist()


def test_a_box_surrounds_the_masks_of_a_slice_and_its_neighbours():
    masks = np.zeros((8, 32, 32), dtype=bool)
    masks[1:6] = rectangle((32, 32), (6, 20), (6, 20))
    masks[3] |= rectangle((32, 32), (5, 20), (6, 20))
    masks[1:3, 26:30, 26:30] = True  # a smaller component
    around = surround(masks, np.array([True, *[False] * 7]))
    assert [rows_of(around[z]) for z in range(6)] == [[6, 19], [6, 19], [5, 19], [5, 19], [5, 19], [6, 19]]
    assert not around[6:].any()  # the organ may end where the classifier does not detect it
    assert rows_of(surround(masks, np.ones(8, dtype=bool))[6]) == [6, 19]
    assert not surround(np.zeros_like(masks), np.ones(8, dtype=bool)).any()


def test_an_organ_that_is_found_in_no_slice_stays_so():
    mix = certain(model(1), -5.0)
    _, of_scan = segmenter(mix)
    assert not joined(of_scan.with_scan_boxes([True]))[2].any()


def test_the_chosen_organ_is_segmented_again_with_these_boxes(monkeypatch):
    mix = certain(model(), 5.0, 5.0)
    slices, of_scan = segmenter(mix)
    own = mix.find(slices)
    around = np.zeros((DEPTH, 32, 32), dtype=bool)
    around[[1, 3]] = rectangle((32, 32), (4, 8), (6, 10))
    given, asked, decode = {}, [], mix.decode

    def surround(masks, present):
        given.update(masks=masks, present=present)
        monkeypatch.setattr(mix, "decode", lambda maps, boxes, cams: asked.append(boxes) or decode(maps, boxes, cams))
        return around

    monkeypatch.setattr(scan, "surround", surround)
    _, present, planes, scores = joined(of_scan.with_scan_boxes([False, True]))
    assert torch.allclose(planes[:, 0], own.planes()[0][:, 0], atol=1e-2)  # the remembered maps are rounded
    assert torch.allclose(present, own.present, atol=1e-6)
    assert given["present"].all()
    assert np.mean(given["masks"] == (own.planes()[0][:, 1].numpy() > 0.5)) > 0.99
    outward = 32 * MAX_SHIFT / 2
    expected = torch.tensor([[6.0, 4, 10, 8]] * 2) + outward * torch.tensor([-1.0, -1, 1, 1])
    torch.testing.assert_close(torch.cat(asked), expected)
    logits, score = select_best(*decode(mix.encode(slices[[1, 3]]), expected, own.cams[[1, 3], 1]))
    assert torch.allclose(planes[[1, 3], 1], logits.sigmoid(), atol=1e-2)
    assert torch.allclose(scores[[1, 3], 1], score, atol=1e-2)
    assert not planes[[0, 2, 4], 1].any()


def test_each_slice_is_encoded_once(monkeypatch):
    mix = certain(model(1), 5.0)
    _, of_scan = segmenter(mix)
    encoded, encode = [], mix.encode
    monkeypatch.setattr(mix, "encode", lambda slices: encoded.append(len(slices)) or encode(slices))
    joined(of_scan.with_scan_boxes([True]))
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


def test_the_mask_of_a_blank_slice_gives_no_box(monkeypatch):
    mix = certain(model(1), 5.0)
    slices, of_scan = segmenter(mix)
    slices[2] = 0.25
    given = {}

    def watch(masks, present):
        given.update(masks=masks, present=present)
        return surround(masks, present)

    monkeypatch.setattr(scan, "surround", watch)
    planes = joined(of_scan.with_scan_boxes([True]))[2]
    assert given["present"].tolist() == [True, True, False, True, True]
    assert not given["masks"][2].any()
    assert not planes[2].any()


def test_the_validation_scans_choose_the_boxes_of_each_organ(cohort, monkeypatch):
    """Here the liver is better with boxes from the scan, the spleen without."""
    store = SliceStore.open(cohort / "store")
    source = SliceSource(store, torch.device("cpu"), with_labels=True)
    validation = MixValidation.with_features(store, store.split().validation, source, "32", None)

    def predict(self, model, case):
        reference = source.gather(self.cases[case]).labels.numpy()
        better = (reference == 1) & self.scan_boxes[0] | (reference == 2) & (not self.scan_boxes[1])
        return np.where(better, reference, 0).astype(np.uint8), reference

    monkeypatch.setattr(MixValidation, "predict", predict)
    assert validation.choose_scan_boxes(model()) == {"liver": True, "spleen": False}


def test_the_choice_of_the_model_is_used_unless_another_is_given(cohort, trained, monkeypatch):
    record = SamMixRecord.read_run(trained)
    monkeypatch.setattr(
        SamMixRecord, "read_run", lambda _: replace(record, scan_boxes={"liver": True, "spleen": False})
    )
    ways = {}
    for choice in ("model", "yes", "no"):
        given = SamMixPredictOptions(
            model=trained, images=cohort, out=cohort / "unused", device="cpu", precision="32", scan_boxes=choice
        )
        ways[choice] = MixPredictor.from_options(given).scan_boxes
    assert ways == {"model": (True, False), "yes": (True, True), "no": (False, False)}
    assert MixPredictor.from_options(replace(given, scan_boxes="model", oracle=cohort)).scan_boxes == (False, False)
    with pytest.raises(OptionError, match=r"--scan-boxes yes was given with --oracle"):
        replace(given, scan_boxes="yes", oracle=cohort)
