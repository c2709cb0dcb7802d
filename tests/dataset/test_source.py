from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from frugalseg.dataset.source import SliceSource, shuffled_batches
from frugalseg.dataset.store import SliceStore

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.random((40, 8, 8)).astype(np.float16))
    np.save(tmp_path / "labels.npy", rng.integers(0, 3, (40, 8, 8)).astype(np.uint8))
    return SliceStore(tmp_path, {}, pd.DataFrame(index=range(40)))


@pytest.mark.parametrize("with_labels", [True, False])
def test_resident_and_streamed_give_the_same_batches_in_order(store, with_labels):
    batches = [torch.tensor([3, 1, 39]), torch.tensor([0, 0, 7]), torch.tensor([5])]
    resident, streamed = (
        list(SliceSource(store, CPU, with_labels, resident=kept).stream(batches)) for kept in (True, False)
    )
    for one, other, rows in zip(resident, streamed, batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert np.array_equal(one.images[:, 0].numpy(), store.images[rows.numpy()].astype(np.float32))
        assert one.images.dtype == torch.float32
        if with_labels:
            assert torch.equal(one.labels, other.labels)
            assert np.array_equal(one.labels.numpy(), store.labels[rows.numpy()])
        else:
            assert one.labels is other.labels is None
    assert list(SliceSource(store, CPU, with_labels, resident=False).stream([])) == []


def test_a_small_store_is_kept_in_memory(store):
    assert SliceSource(store, CPU, with_labels=True).resident


def test_an_error_while_reading_ahead_reaches_the_loop(store):
    with pytest.raises(IndexError):
        list(SliceSource(store, CPU, True, resident=False).stream([torch.tensor([0]), torch.tensor([99])]))


def test_batches_cover_the_rows_and_depend_on_seed_and_epoch():
    rows = np.arange(100, 123)
    batches = shuffled_batches(rows, 5, seed=1, epoch=2)
    drawn = torch.cat(batches)
    assert [len(b) for b in batches] == [5] * 4
    assert len(set(drawn.tolist())) == 20
    assert set(drawn.tolist()) <= set(rows)
    assert torch.equal(drawn, torch.cat(shuffled_batches(rows, 5, 1, 2)))
    for other in ((1, 3), (2, 2)):
        assert not torch.equal(drawn, torch.cat(shuffled_batches(rows, 5, *other)))


def test_rows_fewer_than_a_batch_fill_it_evenly():
    (batch,) = shuffled_batches(np.array([4, 8, 9]), 10, seed=0, epoch=0)
    counts = {row: batch.tolist().count(row) for row in (4, 8, 9)}
    assert sorted(counts.values()) == [3, 3, 4]


def test_tuples_of_rows_stay_together():
    triplets = np.stack([np.arange(12), np.arange(12) + 100, np.arange(12) + 200], axis=1)
    for batch in shuffled_batches(triplets, 4, 0, 0):
        assert torch.equal(batch[:, 1] - batch[:, 0], torch.full((4,), 100))
        assert torch.equal(batch[:, 2] - batch[:, 0], torch.full((4,), 200))
