from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.source import Slices, SliceSource
from frugalseg.options import PrepareOptions
from frugalseg.segmentation.calibrate import score_scans
from frugalseg.segmentation.pseudo import UnlabelledSlices, find_unlearned, make_pseudo_labels
from frugalseg.segmentation.validate import ValidationSet
from tests.scans import write_cohort

ROWS = np.array([2, 5, 9])


def batch(rows):
    """Labels that are a function of their row."""
    labels = rows.to(torch.uint8).view(-1, 1, 1).expand(-1, 4, 4)
    return Slices(torch.zeros(len(rows), 1, 4, 4), labels)


def test_true_masks_of_unlabelled_slices_are_never_used():
    rows = torch.tensor([9, 1, 2, 12, 5, 0])
    seen = UnlabelledSlices(ROWS).annotate(rows, batch(rows))
    assert [int(label[0, 0]) for label in seen.labels] == [0, 1, 0, 12, 0, 0]
    assert [float(w[0, 0]) for w in seen.weights] == [0, 1, 0, 1, 0, 1]
    assert seen.labels.shape == seen.weights.shape == (6, 4, 4)


def test_pseudo_labels_are_weighted_by_their_confidence():
    classes = torch.stack([torch.full((4, 4), c, dtype=torch.uint8) for c in (20, 50, 90)])
    confidence = torch.stack([torch.full((4, 4), c, dtype=torch.uint8) for c in (0, 51, 255)])
    rows = torch.tensor([5, 3, 9, 2])
    seen = UnlabelledSlices(ROWS, classes, confidence).annotate(rows, batch(rows))
    assert [int(label[0, 0]) for label in seen.labels] == [50, 3, 90, 20]
    assert [float(w[0, 0]) for w in seen.weights] == pytest.approx([0.2, 1, 1, 0])


class Bright(nn.Module):
    """Calls bright pixels the organ, with a certainty that grows with their brightness."""

    def forward(self, x):
        return (x - 0.5) * 20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("pseudo")
    images, labels = write_cohort(root, 3)
    return prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))


def test_pseudo_labels_are_the_models_and_keep_the_largest_component(store):
    source = SliceSource(store, torch.device("cpu"), with_labels=True)
    rows = np.arange(4, len(store.slices))
    images = torch.from_numpy(store.images[rows].astype(np.float32))
    raw = make_pseudo_labels(Bright(), store, source, rows, np.arange(4), ["all"], "32", store.folder)
    assert torch.equal(raw.classes, (images > 0.5).to(torch.uint8))
    p = ((images - 0.5) * 20).sigmoid()
    assert torch.allclose(raw.confidence / 255, (2 * p - 1).abs(), atol=1 / 255)

    kept = make_pseudo_labels(Bright(), store, source, rows, np.arange(4), ["largest"], "32", store.folder)
    dropped = (raw.classes == 1) & (kept.classes == 0)
    assert dropped.any()  # the spleen is bright too
    assert not ((kept.classes == 1) & (raw.classes == 0)).any()
    assert (kept.confidence[dropped] == 255).all()
    truth = torch.from_numpy(np.array(store.labels[rows]))
    assert not (dropped & (truth == 1)).sum() > 0.2 * (truth == 1).sum()


class Everywhere(nn.Module):
    """Calls every pixel the organ."""

    def forward(self, x):
        return torch.full_like(x, 5.0)


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """Two labelled scans whose two last slices are blank."""
    root = tmp_path_factory.mktemp("padded")
    images, labels = write_cohort(root, 2)
    for path in sorted(images.iterdir()):
        image = nib.load(path)
        array = np.array(image.dataobj)
        array[:, :, -2:] = -125
        nib.save(nib.Nifti1Image(array, image.affine), path)
    return prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))


def test_blank_slices_are_background_in_pseudo_labels_validation_and_calibration(padded):
    """Scans may be padded with them, and a network may find organs in nothing."""
    source = SliceSource(padded, torch.device("cpu"), with_labels=True)
    blank = torch.from_numpy(
        padded.slices.groupby("case")["z"].transform("max").to_numpy() - padded.slices["z"].to_numpy() < 2
    )
    rows = np.arange(len(padded.slices))
    pseudo = make_pseudo_labels(Everywhere(), padded, source, rows, rows, ["all"], "32", padded.folder)
    assert torch.equal((pseudo.classes == 1).all((1, 2)), ~blank)
    assert (pseudo.confidence[blank] == 255).all()
    assert not pseudo.classes[blank].any()
    validation = ValidationSet.from_store(padded, tuple(padded.patients), source, "32")
    for case, own in validation.cases.items():
        predicted, _ = validation.predict(Everywhere(), case)
        assert predicted.any((1, 2)).tolist() == (~blank[own]).tolist()
    for mask in score_scans(validation, Everywhere(), {"liver": "all"})["probabilities"]["liver"]:
        assert (mask.own.mask > 0).sum() == (~blank).sum() // 2


class Blind(nn.Module):
    """Finds the first organ as `Bright` does, and the second nowhere."""

    def forward(self, x):
        return torch.cat([(x - 0.5) * 20, torch.full_like(x, -20.0)], dim=1)


def test_an_organ_that_the_model_has_not_learned_is_unknown_in_its_pseudo_labels(store):
    source = SliceSource(store, torch.device("cpu"), with_labels=True)
    rows, labelled = np.arange(4, len(store.slices)), np.arange(len(store.slices))
    assert find_unlearned(Blind(), source, labelled, 2, "32").tolist() == [False, True]
    pseudo = make_pseudo_labels(Blind(), store, source, rows, labelled, ["all", "all"], "32", store.folder)
    wanted = torch.tensor([1, 5, 6])
    annotated = pseudo.annotate(wanted, source.gather(wanted))
    assert annotated.unknown.tolist() == [[False, False], [False, True], [False, True]]
    moved = Augment("robust")(annotated)
    assert torch.equal(moved.unknown, annotated.unknown)


def test_each_slice_has_its_own_unknown_organs():
    classes = torch.zeros(3, 4, 4, dtype=torch.uint8)
    unknown = torch.tensor([[True, False], [False, False], [False, True]])
    rows = torch.tensor([9, 5, 3, 2])
    seen = UnlabelledSlices(ROWS, classes, classes, unknown).annotate(rows, batch(rows))
    assert seen.unknown.tolist() == [[False, True], [False, False], [False, False], [True, False]]
    assert UnlabelledSlices(ROWS, classes, classes, unknown & False).annotate(rows, batch(rows)).unknown is None
