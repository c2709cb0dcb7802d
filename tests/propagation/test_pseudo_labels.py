"""Outlined slices of a store propagated through their scans: masks, weights, and what is unknown."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import RunError
from frugalseg.imaging.read import read_labels
from frugalseg.options import FinetuneOptions, PrepareOptions, PropagateOptions
from frugalseg.propagation.passes import SliceState
from frugalseg.propagation.propagate import propagate
from frugalseg.propagation.pseudo_labels import OutlinePropagator, assess_slices, weigh_pixels
from frugalseg.propagation.review import PROPAGATED, ReviewRow
from tests.promptable.fake import Bright
from tests.promptable.tiny_networks import sam, sam2_video
from tests.scans import AFFINE_LPS, write_cohort

CPU = torch.device("cpu")
MODELS: list[Bright] = []


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two scans of 32×32, the size of the store's images, and their store, with liver 1 and spleen 2."""
    root = tmp_path_factory.mktemp("outlines")
    images, labels = write_cohort(root, 1)
    given = {"images": images, "labels": labels, "target": ["liver=6", "spleen=1"], "window": (-100.0, 200.0)}
    prepare(PrepareOptions(**given, size=32, fractions=(0, 0), out=root / "store"))
    return root


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    """Every promptable model outlines what is above 0 HU."""

    def load(name, *_):
        MODELS.append(Bright(signature=name, threshold=0.33, score=0.95))
        return MODELS[-1]

    monkeypatch.setattr("frugalseg.propagation.engines.load_promptable", load)


def store_of(cohort):
    return SliceStore.open(cohort / "store")


def rows_of(store, case):
    return store.slices.index[store.slices["case"] == case].to_numpy(np.int64)


def propagator_of(store, folder, **more):
    options = FinetuneOptions(data=store.folder, out=folder / "run", propagate="any", device="cpu", **more)
    return OutlinePropagator(store, options, CPU, folder / "cache")


def row(slice_, confidence, organ="liver", source=PROPAGATED):
    return ReviewRow(slice_, organ, source, "3", 0.0, 1.0, 1.0, 1.0, 1.0, confidence, "")


def test_slices_of_a_store_are_propagated_as_the_command_propagates_scans(cohort, tmp_path):
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    found, confidence, unknown = propagator_of(store, tmp_path)("scan_00", rows, {5: labels[5]}, tmp_path / "states")
    mask = nib.load(cohort / "labels" / "scan_00.nii.gz")
    outlined = np.zeros(mask.shape, np.uint8)
    outlined[..., 5] = np.asarray(mask.dataobj)[..., 5]
    (tmp_path / "outlined").mkdir()
    nib.save(nib.Nifti1Image(outlined, AFFINE_LPS), tmp_path / "outlined" / "scan_00.nii.gz")
    made = propagate(
        PropagateOptions(
            images=cohort / "images",
            annotations=tmp_path / "outlined",
            out=tmp_path / "out",
            target=["liver=6", "spleen=1"],
            window=(-100.0, 200.0),
            device="cpu",
            precision="32",
        )
    )
    expected = read_labels(made["scan_00"]).array.transpose(2, 1, 0)
    assert np.array_equal(found == 1, expected == 6)
    assert np.array_equal(found == 2, expected == 1)
    assert unknown.tolist() == [False, False]
    others = np.arange(len(rows)) != 5
    assert ((found == labels)[others].mean()) > 0.95
    assert len(np.unique(confidence[others])) > 3


def test_each_slice_has_its_confidence_and_beyond_the_end_that_of_the_last():
    rows = [row(1, 0.4), row(2, 0.8), row(3, 1.0, source="annotated"), row(4, 0.6), row(5, 0.3, source="ended")]
    confidence, known = assess_slices(rows, ["liver", "spleen"], 8)
    assert confidence[:, 0].tolist() == [0.4, 0.4, 0.8, 0.8, 0.6, 0.6, 0.6, 0.6]
    assert known.tolist() == [True, False]
    assert (confidence[:, 1] == 0).all()


def test_a_pixel_has_the_weight_of_its_organ_and_background_the_mean_of_the_known_ones():
    classes = np.array([[[0, 1], [2, 3]], [[0, 0], [1, 0]]], np.uint8)
    confidence = np.array([[0.2, 0.6, 0.0], [1.0, 0.4, 0.0]])
    weights = weigh_pixels(classes, confidence, np.array([True, True, False]))
    assert weights.tolist() == [[[102, 51], [153, 0]], [[178, 178], [255, 178]]]


def test_an_organ_that_was_not_outlined_is_unknown(cohort, tmp_path):
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    only = np.where(labels[5] == 1, labels[5], 0)
    found, _, unknown = propagator_of(store, tmp_path)("scan_00", rows, {5: only}, tmp_path / "states")
    assert unknown.tolist() == [False, True]
    assert not (found == 2).any()
    assert (found == 1).any(axis=(1, 2)).sum() > 4


def test_slices_outlined_as_empty_bound_the_propagation(cohort, tmp_path):
    """The bound is put into the liver, so that the propagation would go on without it."""
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    run = propagator_of(store, tmp_path)
    free, _, _ = run("scan_00", rows, {5: labels[5]}, tmp_path / "free")
    nothing = np.zeros_like(labels[7])
    bound, _, _ = run("scan_00", rows, {5: labels[5], 7: nothing}, tmp_path / "bound")
    assert free[7].any()
    assert not bound[7:].any()
    assert np.array_equal(bound[:7], free[:7])


def test_where_organs_touch_a_pixel_is_that_of_the_surer_one(cohort, tmp_path):
    """Liver and spleen each claim the other's half of one bright part; every pixel has one class."""
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    split = np.array(labels[5] == 1, np.uint8)
    middle = int(np.flatnonzero(split.any(axis=0)).mean())
    split[:, middle:] *= 2
    run = propagator_of(store, tmp_path)
    found, _, _ = run("scan_00", rows, {5: split}, tmp_path / "states")
    state = next((tmp_path / "states").glob("*/0006.npz"))
    beliefs = SliceState.load(state).beliefs
    claimed = (beliefs > 0).all(axis=0)
    assert claimed.any()
    assert np.array_equal(found[6][claimed], 1 + beliefs[:, claimed].argmax(axis=0))


def test_an_interrupted_propagation_continues_and_other_outlines_start_again(cohort, tmp_path):
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    whole = propagator_of(store, tmp_path / "a")("scan_00", rows, {5: labels[5]}, tmp_path / "states")
    for state in sorted((tmp_path / "states").glob("*/*.npz"))[-3:]:
        state.unlink()
    again = propagator_of(store, tmp_path / "b")("scan_00", rows, {5: labels[5]}, tmp_path / "states")
    assert all(np.array_equal(one, other) for one, other in zip(whole, again, strict=True))
    assert 1 <= sum(MODELS[-1].encoded) <= 4
    propagator_of(store, tmp_path / "c")("scan_00", rows, {6: labels[6]}, tmp_path / "states")
    assert sum(MODELS[-1].encoded) > 4


def test_embeddings_are_kept_for_the_next_training(cohort, tmp_path):
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    first = propagator_of(store, tmp_path)("scan_00", rows, {5: labels[5]}, tmp_path / "one")
    second = propagator_of(store, tmp_path)("scan_00", rows, {5: labels[5]}, tmp_path / "two")
    assert sum(MODELS[-1].encoded) == 0
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_model_without_memory_is_refused_by_the_engine_that_needs_it(cohort, tmp_path, monkeypatch):
    sam().save_pretrained(tmp_path / "sam")
    options = FinetuneOptions(
        data=cohort / "store", out=tmp_path / "run", propagate=str(tmp_path / "sam"), engine="sam2", device="cpu"
    )
    with pytest.raises(RunError, match="expected sam2_video or edgetam_video"):
        OutlinePropagator(store_of(cohort), options, CPU, tmp_path / "cache")


def test_the_memory_of_sam_2_propagates_too_and_keeps_no_embeddings(cohort, tmp_path):
    store = store_of(cohort)
    rows = rows_of(store, "scan_00")
    labels = np.array(store.labels[rows])
    sam2_video().save_pretrained(tmp_path / "sam2")
    options = FinetuneOptions(
        data=store.folder, out=tmp_path / "run", propagate=str(tmp_path / "sam2"), engine="sam2", device="cpu"
    )
    propagator = OutlinePropagator(store, options, CPU, tmp_path / "cache")
    given = {5: labels[5], 11: np.zeros_like(labels[11])}
    found, confidence, unknown = propagator("scan_00", rows, given, tmp_path / "states")
    assert np.array_equal(found[5], labels[5])
    assert found.shape == confidence.shape == labels.shape
    assert unknown.shape == (2,)
    assert sorted(int(state.stem) for state in (tmp_path / "states").glob("*/*.npz")) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert propagator.record.model == str(tmp_path / "sam2")
    assert not (tmp_path / "cache").exists()
