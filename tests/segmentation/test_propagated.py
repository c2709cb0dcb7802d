"""Fine-tuning on outlined slices and what was propagated from them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.training import run_training
from frugalseg.errors import OptionError
from frugalseg.models.saved import load_weights
from frugalseg.options import FinetuneOptions, PrepareOptions
from frugalseg.propagation.passes import SliceState
from frugalseg.records.model import PromptableModel
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation import finetune as module
from frugalseg.segmentation.finetune import FineTuning
from frugalseg.segmentation.propagated import find_propagated, override, propagate_outlines
from frugalseg.segmentation.pseudo import UnlabelledSlices
from frugalseg.segmentation.task import FinetuneTask
from tests.promptable.fake import Bright
from tests.promptable.tiny_networks import sam
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Six scans of 32×32, of which four are for training, and their store."""
    root = tmp_path_factory.mktemp("propagated")
    images, labels = write_cohort(root, 6, shape=(32, 32, 8))
    given = {"images": images, "labels": labels, "target": ["liver=6"], "window": (-100.0, 200.0), "size": 32}
    prepare(PrepareOptions(**given, fractions=(0.17, 0.17), out=root / "store"))
    return root


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """Every promptable model outlines what is above 50 HU."""
    monkeypatch.setattr(
        "frugalseg.propagation.engines.load_promptable",
        lambda name, *_: Bright(signature=name, threshold=0.5, score=0.9),
    )
    monkeypatch.setattr("frugalseg.promptable.load.resolve_name", lambda name: name)


@pytest.fixture
def learned(monkeypatch):
    """The training sets of all rounds."""
    seen = []
    original = module.FinetuneTrainingSet

    def spy(labelled, unlabelled, copies):
        seen.append((labelled, unlabelled))
        return original(labelled, unlabelled, copies)

    monkeypatch.setattr(module, "FinetuneTrainingSet", spy)
    return seen


def options(cohort, out, store="store", **more):
    given = {"steps": 4, "batch_size": 4, "budget": "2 slices", "propagate": "any", "validate_every": 2}
    return FinetuneOptions(
        **{**given, **more}, data=cohort / store, out=out, cache=out.parent / "cache", device="cpu", precision="32"
    )


def test_outlined_scans_get_propagated_labels_and_the_others_those_of_the_first_model(cohort, tmp_path, learned):
    run = finetune(options(cohort, tmp_path / "run", preset="best"))
    store = SliceStore.open(cohort / "store")
    training = store.split(None).train
    (labelled, first), (again, second) = learned
    scans = set(store.slices.loc[labelled, "case"])
    assert len(scans) == 2
    assert np.array_equal(labelled, again)
    assert set(store.slices.loc[first.rows, "case"]) == scans
    everything = store.slices.index[store.slices["patient"].isin(training)]
    assert np.array_equal(second.rows, np.setdiff1d(everything, labelled))
    at = np.searchsorted(second.rows, first.rows)
    assert torch.equal(second.classes[at], first.classes)
    assert torch.equal(second.confidence[at], first.confidence)
    truth = torch.from_numpy(np.array(store.labels[first.rows]))
    assert (first.classes == truth).float().mean() > 0.95
    assert (first.classes == 1).any()
    assert 0 < first.confidence.float().mean() < 255

    record, early = (SegmenterRecord.read_run(folder) for folder in (run.path, run.path / "rounds" / "0"))
    said = record.annotation
    assert (said.masks, said.propagated_slices, said.propagated_scans) == (2, 14, 2)
    assert (said.unlabelled_slices, said.unlabelled_scans) == (30, 4)
    assert (early.annotation.unlabelled_slices, early.annotation.propagated_slices) == (14, 14)
    assert record.outlines_propagated_by == PromptableModel("any", "Bright", "any")
    assert record.pseudo_labels_refined_by is None


def test_without_propagation_nothing_is_recorded(cohort, tmp_path, learned):
    run = finetune(options(cohort, tmp_path / "run", propagate=None))
    assert learned[0][1] is None
    record = SegmenterRecord.read_run(run.path)
    assert record.outlines_propagated_by is None
    assert (record.annotation.propagated_slices, record.annotation.unlabelled_slices) == (0, 0)


@pytest.mark.parametrize("way", [{}, {"semi": "mean-teacher"}], ids=str)
def test_the_propagated_slices_are_used_without_self_training_too(cohort, tmp_path, learned, way):
    finetune(options(cohort, tmp_path / "run", **way))
    ((_, used),) = learned
    shown = used.confidence.flatten(1).any(dim=1)
    assert int(shown.sum()) == 14
    assert len(used.rows) == (30 if way else 14)


def test_a_decoder_on_a_frozen_encoder_learns_from_propagated_slices_too(cohort, tmp_path, learned):
    sam().save_pretrained(tmp_path / "sam")
    run = finetune(options(cohort, tmp_path / "run", backbone=str(tmp_path / "sam"), copies=1))
    ((_, used),) = learned
    assert len(used.rows) == 14
    assert SegmenterRecord.read_run(run.path).annotation.propagated_slices == 14


def test_masks_that_nobody_drew_are_never_read(cohort, tmp_path, monkeypatch):
    """Those of unlabelled and of held-out scans are garbage: the model is the same, bit for bit."""
    plain = finetune(options(cohort, tmp_path / "a", preset="best"))
    shutil.copytree(cohort / "store", cohort / "garbled")
    store = SliceStore.open(cohort / "garbled")
    drawn = FineTuning.open(options(cohort, tmp_path / "none")).labelled
    validation = store.slices.index[store.slices["patient"].isin(store.split(None).validation)]
    hidden = np.setdiff1d(store.slices.index, np.union1d(drawn, validation))
    masks = np.load(cohort / "garbled" / "labels.npy", mmap_mode="r+")
    masks[hidden] = 1 - masks[hidden]
    masks.flush()
    monkeypatch.setattr(SliceStore, "check_content", lambda *_: None)
    monkeypatch.setattr(SliceStore, "identity", lambda *_: {})
    other = finetune(options(cohort, tmp_path / "b", store="garbled", preset="best"))
    one, two = load_weights(plain.path), load_weights(other.path)
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


@pytest.mark.parametrize("preset", ["robust", "best"])
@pytest.mark.parametrize(("owner", "method", "count"), [(SliceState, "save", 5), (FinetuneTask, "after_step", 3)])
def test_an_interrupted_run_is_resumed_exactly(cohort, tmp_path, monkeypatch, preset, owner, method, count):
    whole = finetune(options(cohort, tmp_path / "whole", preset=preset))
    done, original = [], getattr(owner, method)

    def dying(*given):
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(1)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, dying)
        with pytest.raises(KeyboardInterrupt):
            finetune(options(cohort, tmp_path / "run", preset=preset))
    again = finetune(options(cohort, tmp_path / "run", preset=preset, resume="yes"))
    expected, found = load_weights(whole.path), load_weights(again.path)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_slices_of_one_scan_and_slices_outlined_as_empty_are_propagated(cohort, tmp_path, learned):
    """random-all takes slices that show no organ, too: such a slice is a label, and propagates nothing."""
    store = SliceStore.open(cohort / "store")
    for draw in range(9):
        way = {"choose": "random-all", "budget": "7 slices", "label_draw": draw}
        opened = FineTuning.open(options(cohort, tmp_path / "x", **way))
        shows = store.slices.loc[opened.labelled, store.presence_columns].any(axis=1)
        scans = store.slices.loc[opened.labelled[shows], "case"]
        if not shows.all():
            break
    assert not shows.all()
    assert set(store.slices.loc[opened.to_propagate, "case"]) == set(scans)
    finetune(options(cohort, tmp_path / "run", **way))
    ((labelled, used),) = learned
    assert not set(labelled) & set(used.rows)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": "1 scans"}, r"--propagate any applies to budgets of slices.*nothing to propagate"),
        ({"budget": "100%"}, r"--propagate any applies to budgets of slices"),
        ({"batch_size": 1}, r"--batch-size 1 is too small for unlabelled slices"),
    ],
)
def test_what_cannot_be_propagated_is_refused_before_training(cohort, tmp_path, given, said):
    with pytest.raises(OptionError, match=said):
        finetune(options(cohort, tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


def test_a_missing_model_is_told_before_training(cohort, tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(OptionError, match="unknown weights 'nothing'"):
        finetune(options(cohort, tmp_path / "run", propagate="nothing"))
    assert not (tmp_path / "run").exists()


def test_an_engine_without_propagation_is_refused(cohort, tmp_path):
    with pytest.raises(OptionError, match="--engine sam2 applies to --propagate only"):
        options(cohort, tmp_path / "run", propagate=None, engine="sam2")


def test_the_wish_is_never_passed_over(cohort, tmp_path):
    with pytest.raises(AssertionError, match=r"options\.propagate needs a propagator"):
        run_training(FineTuning.open(options(cohort, tmp_path / "run")))


def test_scans_that_are_outlined_as_a_whole_leave_nothing(cohort):
    store = SliceStore.open(cohort / "store")
    whole = store.slices.index[store.slices["case"] == "scan_00"].to_numpy(np.int64)
    others = store.slices.index[store.slices["case"] == "scan_01"].to_numpy(np.int64)
    with pytest.raises(OptionError, match="nothing to propagate"):
        find_propagated(store, whole, others)
    empty = [row for row in whole if not store.labels[row].any()]
    assert empty
    with pytest.raises(OptionError, match="nothing to propagate"):
        find_propagated(store, np.array(empty[:1]), np.setdiff1d(whole, empty[:1]))
    assert np.array_equal(find_propagated(store, whole[3:4], np.setdiff1d(whole, whole[3])), np.delete(whole, 3))


def test_a_scan_in_which_nothing_was_propagated_is_one_without_an_outline(cohort, tmp_path):
    store = SliceStore.open(cohort / "store")
    rows = store.slices.index[store.slices["case"].isin(["scan_00", "scan_01"])].to_numpy(np.int64)
    labelled, others = rows[[3, 11]], np.delete(rows, [3, 11])

    def fails_in(cases):
        def propagator(case, whole, outlines, folder):
            assert list(outlines) == [3]
            blank = np.zeros((len(whole), 32, 32), np.uint8)
            return blank, blank, np.array([case in cases])

        return propagator

    kept = propagate_outlines(store, labelled, others, fails_in(["scan_00"]), tmp_path)
    assert set(store.slices.loc[kept.rows, "case"]) == {"scan_01"}
    assert kept.classes.shape == kept.confidence.shape == (7, 32, 32)
    assert propagate_outlines(store, labelled, others, fails_in(["scan_00", "scan_01"]), tmp_path) is None


def plane(*values):
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 1, -1)


def test_a_models_pseudo_labels_remain_for_organs_that_were_not_outlined(tmp_path):
    """Organ 1 was outlined in row 5, organs 2 and 3 were not; the model has not learned organ 3."""
    rows, places = np.array([4, 5]), 6
    model = UnlabelledSlices(
        rows,
        torch.cat([plane(*[1] * places), plane(0, 1, 2, 2, 2, 0)]),
        torch.cat([plane(*[9] * places), plane(200, 200, 200, 50, 90, 200)]),
        torch.tensor([[False, False, True]] * 2),
    )
    propagated = UnlabelledSlices(
        rows[1:], plane(0, 0, 1, 1, 0, 1), plane(100, 100, 100, 100, 100, 100), torch.tensor([[False, True, True]])
    )
    joined = override(model, propagated, tmp_path)
    assert joined.classes[1].tolist() == [[0, 0, 2, 1, 2, 1]]
    assert joined.confidence[1].tolist() == [[100, 100, 200, 100, 90, 100]]
    assert joined.classes[0].tolist() == [[1] * places]
    assert joined.confidence[0].tolist() == [[9] * places]
    assert joined.unknown.tolist() == [[False, False, True], [False, False, True]]


def test_slices_without_any_pseudo_label_have_no_weight(tmp_path):
    propagated = UnlabelledSlices(np.array([5]), plane(1, 0), plane(7, 8), torch.tensor([[False, True]]))
    joined = override(UnlabelledSlices(np.array([4, 5])), propagated, tmp_path)
    assert joined.classes.tolist() == [[[0, 0]], [[1, 0]]]
    assert joined.confidence.tolist() == [[[0, 0]], [[7, 8]]]
    assert joined.unknown[1].tolist() == [False, True]
