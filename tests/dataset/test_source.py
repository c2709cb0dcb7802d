from __future__ import annotations

from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frugalseg.dataset.source import SliceSource, shuffled_batches
from frugalseg.dataset.store import SliceStore
from tests.stores import store_record

CPU = torch.device("cpu")
ROWS = [0, 7, 24, 25, 39]


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.random((40, 8, 8)).astype(np.float16))
    np.save(tmp_path / "labels.npy", rng.integers(0, 3, (40, 8, 8)).astype(np.uint8))
    scans = pd.DataFrame({"case": ["a"] * 25 + ["b"] * 15, "z": [*range(25), *range(15)]})
    return SliceStore(tmp_path, store_record(size=8), scans)


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


@given(st.lists(st.integers(0, 39), min_size=1), st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_source_of_some_rows_gives_the_batches_of_one_of_all(store, needed, data):
    requested = torch.tensor(data.draw(st.lists(st.sampled_from(needed), min_size=1)))
    for with_labels in (True, False):
        whole = SliceSource(store, CPU, with_labels, resident=True).gather(requested)
        for resident in (True, False):
            part = SliceSource(store, CPU, with_labels, resident, rows=np.array(needed)).gather(requested)
            assert torch.equal(part.images, whole.images)
            assert part.labels is whole.labels is None or torch.equal(part.labels, whole.labels)


def test_only_the_rows_needed_are_kept_and_counted(store):
    rows = np.array([30, 2, 2, 17])
    assert [len(held) for held in SliceSource(store, CPU, True, resident=True, rows=rows)._held] == [3, 3]
    free_bytes = 2 * 3 * 8 * 8 * (2 + 1)  # half of it holds three slices with labels
    with mock.patch("frugalseg.dataset.source.free_memory", return_value=free_bytes):
        assert SliceSource(store, CPU, True, rows=rows).resident
        assert not SliceSource(store, CPU, True, rows=np.arange(4)).resident
        assert not SliceSource(store, CPU, True).resident


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("stranger", [3, -1, 40])
def test_a_row_that_was_not_foreseen_is_an_error(store, resident, stranger):
    source = SliceSource(store, CPU, True, resident, rows=np.array([2, 39]))
    with pytest.raises(IndexError):
        source.gather(torch.tensor([2, stranger]))


def test_what_is_kept_is_a_copy_that_cannot_reach_the_file(store):
    source = SliceSource(store, CPU, True, resident=True, rows=np.array([5]))
    source.gather(torch.tensor([5])).images.zero_()
    source._held[0].zero_()
    assert store.images[5].any()


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


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("rows", [None, ROWS])
def test_neighbours_come_as_channels_and_never_from_another_scan(store, resident, rows):
    """Scans of the store are runs of rows; at a scan's end its last slice stands in for the one beyond."""
    kept = None if rows is None else np.array(rows)
    batch = SliceSource(store, CPU, True, resident, kept, context=2).gather(torch.tensor(ROWS))
    assert batch.images.shape[:2] == (5, 5)
    case = store.slices["case"].to_numpy()
    for image, label, row in zip(batch.images, batch.labels, ROWS, strict=True):
        assert np.array_equal(label, store.labels[row])
        for k, channel in zip(range(-2, 3), image, strict=True):
            own = np.flatnonzero(case == case[row])
            assert np.array_equal(channel, store.images[np.clip(row + k, own[0], own[-1])].astype(np.float32))
