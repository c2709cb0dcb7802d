from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.models.registry import build_segmenter
from frugalseg.options import FinetuneOptions
from frugalseg.records.split import Split
from frugalseg.segmentation.presets import PRESETS, Preset, make_schedule
from frugalseg.segmentation.pseudo import UnlabelledSlices
from frugalseg.segmentation.task import FinetuneTask, FinetuneTrainingSet
from tests.stores import store_record


def trace(preset, steps, per_epoch):
    optimizer = PRESETS[preset].make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    schedule = make_schedule(PRESETS[preset], optimizer, steps, per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_paper_restarts_every_ten_epochs_and_moves_inside_an_epoch():
    rates = trace("paper", steps=120, per_epoch=5)
    assert rates[0] == rates[50] == rates[100] == 1e-3
    assert all(a > b for a, b in pairwise(rates[:50]))


def test_supercl_falls_once_to_a_hundredth():
    rates = trace("supercl", steps=60, per_epoch=7)
    assert rates[0] == 5e-4
    assert all(a > b for a, b in pairwise(rates))
    assert rates[30] == pytest.approx((5e-4 + 5e-6) / 2)
    assert rates[-1] == pytest.approx(5e-6, rel=0.1)


def test_robust_rises_once_and_ends_near_zero():
    rates = trace("robust", steps=100, per_epoch=7)
    top = rates.index(max(rates))
    assert 0 < top < 50
    assert max(rates) == pytest.approx(PRESETS["robust"].lr, rel=1e-2)
    assert rates[-1] < 1e-3 * max(rates)


def test_length_grows_with_the_root_of_the_number_of_organs():
    best = PRESETS["best"]
    assert [best.steps_for(organs) for organs in (1, 2, 4, 13)] == [1000, 1400, 2000, 3600]
    assert PRESETS["paper"].steps_for(13) is None


def test_published_presets_keep_whole_masks_and_ours_choose_on_validation_patients():
    assert PRESETS["paper"].keep == PRESETS["supercl"].keep == ("all",)
    assert len(PRESETS["robust"].keep) > 1
    assert len(PRESETS["best"].keep) > 1


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 19, 20, 21])
@pytest.mark.parametrize("preset", PRESETS)
def test_shortest_runs_have_a_schedule(preset, steps):
    assert all(0 < rate <= PRESETS[preset].lr for rate in trace(preset, steps, per_epoch=1))


def test_own_learning_rate_wins():
    assert PRESETS["robust"].make_optimizer([torch.nn.Parameter(torch.zeros(1))], 0.5).param_groups[0]["lr"] == 0.5


def test_every_way_of_training_is_equally_long(tmp_path):
    """Epochs are passes over the labels at the full batch size, whatever share of a batch is unlabelled."""
    store = tiny_store(tmp_path)
    lengths = set()
    for unlabelled in (None, UnlabelledSlices(np.arange(40, 50))):
        source = SliceSource(store, torch.device("cpu"), with_labels=True)
        options = FinetuneOptions(data=tmp_path, out=tmp_path / "o", preset="paper", epochs=3, batch_size=4)
        network = build_segmenter("unet", 1, "instance")
        split = Split(train=("a",), validation=(), test=())
        known = FinetuneTrainingSet(np.arange(24), unlabelled)
        task = FinetuneTask(options, PRESETS["paper"], network, store, split, source, known)
        lengths.add(task.steps)
        for rows in task.batches(0):
            assert len(rows) == 4
            assert (rows >= 40).sum() == (0 if unlabelled is None else 2)
    assert lengths == {18}


def tiny_store(folder):
    np.save(folder / "images.npy", np.zeros((50, 16, 16), np.float16))
    np.save(folder / "labels.npy", np.zeros((50, 16, 16), np.uint8))
    index = pd.DataFrame({"case": "a", "patient": "a", "z": range(50), "labelled": True, "has_liver": True})
    return SliceStore(folder, store_record({"liver": (6,)}, size=16), index)


def test_trainings_in_studies_are_identified_as_before_by_every_field():
    """A field renamed in the code keeps its name there: else all models of earlier studies would be trained again."""
    content = PRESETS["best"].content()
    assert content["decay"] == PRESETS["best"].ema_decay == 0.99
    assert "ema_decay" not in content
    assert len(content) == len(fields(Preset))
    assert PRESETS["paper"].content()["decay"] is None
