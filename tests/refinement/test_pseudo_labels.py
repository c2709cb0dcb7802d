"""Self-training whose pseudo-labels are refined by a promptable model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.files import read_json
from frugalseg.engine.training import run_training
from frugalseg.errors import OptionError
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.options import FinetuneOptions, PrepareOptions, RefineOptions
from frugalseg.refinement import pseudo_labels as room
from frugalseg.refinement.pseudo_labels import PseudoLabelRefiner
from frugalseg.refinement.refine import refine
from frugalseg.segmentation import finetune as segment
from frugalseg.segmentation.finetune import FineTuning
from tests.promptable.fake import Bright
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Scans of 32×32, the size of the store's images, and their store."""
    root = tmp_path_factory.mktemp("redraw")
    images, labels = write_cohort(root, 5, shape=(32, 32, 6))
    shown = {"size": 32, "window": (-100.0, 200.0)}
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], out=root / "store", **shown))
    return root


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """Every promptable model outlines what is above 50 HU."""
    models = []

    def load(name, *_):
        models.append(Bright(signature=name, threshold=0.5))
        return models[-1]

    monkeypatch.setattr(room, "load_promptable", load)
    monkeypatch.setattr("frugalseg.refinement.refine.load_promptable", load)
    monkeypatch.setattr("frugalseg.promptable.load.resolve_name", lambda name: name)
    return models


def options(cohort, out, **more):
    settings = {"steps": 4, "batch_size": 4, "device": "cpu", "precision": "32", "budget": "1 scans"}
    return FinetuneOptions(data=cohort / "store", out=out, **(settings | more))


def test_slices_of_a_store_are_refined_as_the_command_refines_scans(cohort, tmp_path):
    """Where the store has the scan's own pixels, both get the same images and spacing."""
    store = prepare(
        PrepareOptions(
            images=cohort / "images",
            labels=cohort / "labels",
            target=["liver=6"],
            size=32,
            window=(-100.0, 200.0),
            out=cohort / "store",
        )
    )
    rows = store.slices.index[store.slices["case"] == "scan_01"].to_numpy(np.int64)
    drawn = np.array(store.labels[rows])
    refiner = PseudoLabelRefiner(
        store, options(cohort, tmp_path, semi="self-training", refine="any"), torch.device("cpu")
    )
    refined = refiner("scan_01", rows, drawn)
    made = refine(
        RefineOptions(
            images=cohort / "images",
            masks=cohort / "labels",
            out=tmp_path / "out",
            case=["scan_01"],
            target=["liver=6"],
            window=(-100.0, 200.0),
            device="cpu",
            precision="32",
        )
    )
    mask = read_labels(made["scan_01"])
    assert read_volume(cohort / "images" / "scan_01.nii.gz").same_grid(mask)
    assert np.array_equal(mask.array.transpose(2, 1, 0) == 6, refined == 1)
    assert (refined != drawn).any()


def test_the_next_model_learns_what_was_drawn_anew(cohort, tmp_path, monkeypatch, bright):
    learned = []
    original = segment.FinetuneTrainingSet

    def spy(labelled, unlabelled, *more):
        learned.append(unlabelled)
        return original(labelled, unlabelled, *more)

    monkeypatch.setattr(segment, "FinetuneTrainingSet", spy)
    finetune(options(cohort, tmp_path / "plain", semi="self-training"))
    run = finetune(options(cohort, tmp_path / "refined", semi="self-training", refine="mine"))
    first, plain, again, refined = learned
    assert first is None
    assert again is None
    changed = plain.classes != refined.classes
    assert changed.any()
    assert (refined.confidence[changed] == 255).all()
    assert torch.equal(refined.confidence[~changed], plain.confidence[~changed])
    assert [model.signature for model in bright] == ["mine"]
    said = {"model": "mine", "name": "Bright", "signature": "mine"}
    assert read_json(run.path / "model.json")["pseudo_labels_refined_by"] == said
    assert read_json(run.path / "rounds" / "0" / "model.json")["pseudo_labels_refined_by"] is None
    calibrated = read_json(run.path / "model.json")["calibration"]
    assert calibrated["agreement"]["liver"]["refined_by"] == "mine"
    assert calibrated["probabilities"]["liver"]["refined_by"] is None
    assert "agreement" not in read_json(run.path / "rounds" / "0" / "model.json")["calibration"]


def test_without_self_training_there_is_nothing_to_refine(cohort, tmp_path):
    with pytest.raises(OptionError, match="--refine any applies to self-training only"):
        finetune(options(cohort, tmp_path / "out", refine="any"))
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_told_before_any_training(cohort, tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(OptionError, match="unknown weights 'nothing'"):
        finetune(options(cohort, tmp_path / "out", semi="self-training", refine="nothing"))
    assert not (tmp_path / "out").exists()


def test_the_room_that_cannot_refine_never_passes_over_the_wish(cohort, tmp_path):
    with pytest.raises(AssertionError, match="options.refine needs a refiner"):
        run_training(FineTuning.open(options(cohort, tmp_path / "out", semi="self-training", refine="any")))
