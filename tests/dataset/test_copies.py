"""Changed copies of slices: labels stay on what they mark, and a copy depends on its slice and number alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.dataset.copies import make_copies
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.source import SliceSource
from frugalseg.options import PrepareOptions
from tests.scans import write_cohort

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("copies")
    images, labels = write_cohort(root, 3, shape=(48, 48, 4))
    given = {"images": images, "labels": labels, "target": ["liver=6"], "size": 48, "fractions": (0, 0)}
    return prepare(PrepareOptions(**given, out=root / "store"))


def test_a_copy_depends_on_its_slice_and_number_alone(store):
    one = make_copies(store, np.array([5]), 2, "robust")
    torch.manual_seed(9)
    more = make_copies(store, np.array([1, 5]), 3, "robust")
    assert np.array_equal(one.images, more.images[3:5])
    assert not np.array_equal(one.images[0], one.images[1])
    before = torch.get_rng_state()
    make_copies(store, np.array([5]), 1, "robust")
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_move_with_the_slice(store):
    rows = np.flatnonzero(store.slices["has_liver"])
    copies = make_copies(store, rows, 4, "robust")

    def contrast(images, labels):
        """How much brighter the organ is than all else, on average."""
        images = images.astype(np.float32)
        return images[labels == 1].mean() - images[labels == 0].mean()

    here = contrast(store.images[rows], store.labels[rows])
    assert contrast(copies.images, copies.labels) > 0.7 * here
    assert contrast(copies.images, copies.labels[::-1]) < 0.6 * here


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("context", [0, 1])
def test_copies_come_from_a_source_like_slices(store, resident, context):
    copies = make_copies(store, np.array([2, 7]), 2, "robust", context)
    width = 2 * context + 1
    rows = np.concatenate([[3], copies.positions(12)])
    assert rows.tolist() == [3, *(12 + context + width * np.arange(4))]
    source = SliceSource(store, CPU, True, resident, rows=rows, context=context, copies=copies)
    batch = source.gather(torch.from_numpy(rows[[2, 0, 4]]))
    images = copies.images.astype(np.float32).reshape(4, width, 48, 48)
    assert np.array_equal(batch.images[[0, 2]].numpy(), images[[1, 3]])
    assert np.array_equal(batch.images[1, context].numpy(), store.images[3].astype(np.float32))
    assert np.array_equal(batch.labels[0].numpy(), copies.labels[width])
    assert np.array_equal(batch.labels[1].numpy(), store.labels[3])


def test_neighbours_are_changed_like_their_slice(store):
    """A neighbour that is the slice itself, at the end of a scan, is its copy."""
    copies = make_copies(store, np.array([0]), 1, "supercl", 1)  # moved only: no noise of its own
    assert np.array_equal(copies.images[0], copies.images[1])
    assert not np.array_equal(copies.images[2], copies.images[1])
