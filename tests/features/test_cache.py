"""Cached features: encoded once, the same as without a cache, never those of another slice, window or encoder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frugalseg.dataset.copies import make_copies
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.source import JoinedRows, SliceSource
from frugalseg.errors import DiskError, RunError, StoreError
from frugalseg.features.cache import SliceFeatures
from frugalseg.features.encoder import SLICES_AT_ONCE
from frugalseg.options import PrepareOptions
from tests.features.encoders import block_means
from tests.scans import write_cohort

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    images, labels = write_cohort(root, 3, shape=(32, 32, 4))
    return {"images": images, "labels": labels, "target": ["liver=6"], "size": 32, "fractions": (0, 0)}


@pytest.fixture(scope="module")
def store(scans, tmp_path_factory):
    return prepare(PrepareOptions(**scans, out=tmp_path_factory.mktemp("store") / "store"))


def test_only_what_is_asked_for_is_encoded_and_only_once(store, tmp_path):
    encoder = block_means()
    features = SliceFeatures(store.images, encoder, tmp_path)
    encoder.model.encoded = 0
    features.fill(np.array([5, 2, 2, 7]))
    assert encoder.model.encoded == 3
    fresh = features[np.array([7, 2])]
    features.fill(np.array([2, 5]))
    again = SliceFeatures(store.images, encoder, tmp_path)
    assert np.array_equal(again[np.array([7, 2])], fresh)
    assert encoder.model.encoded == 3
    again[np.array([0])]
    assert encoder.model.encoded == 4


def test_features_from_the_cache_are_those_without_it(store, tmp_path):
    encoder = block_means(scale=1 / 3)
    rows = np.arange(len(store.slices))
    slices = torch.from_numpy(store.images[rows].astype(np.float32))
    assert np.array_equal(SliceFeatures(store.images, encoder, tmp_path)[rows], encoder(slices).numpy())
    assert np.array_equal(SliceFeatures(store.images, encoder, tmp_path)[rows], encoder(slices).numpy())


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("context", [0, 1])
def test_a_source_gives_the_features_of_each_slice_and_its_neighbours_by_height(store, tmp_path, resident, context):
    encoder = block_means()
    features = SliceFeatures(store.images, encoder, tmp_path)
    rows = torch.tensor([4, 0, 6])  # 4 and 0 are the lowest slices of their scans
    source = SliceSource(store, CPU, True, resident, rows=rows.numpy(), context=context, features=features)
    for batch in (source.gather(rows), *source.stream([rows])):
        expected = encoder(batch.images.flatten(0, 1)).reshape(3, -1, 16, 16)
        assert torch.equal(batch.features, expected)
        assert batch.inputs == (batch.images, batch.features)


def test_the_same_slices_in_another_store_need_no_encoding_other_windows_do(scans, store, tmp_path):
    encoder = block_means()
    SliceFeatures(store.images, encoder, tmp_path).fill(np.arange(12))
    more_labels = prepare(PrepareOptions(**{**scans, "target": ["liver=6", "spleen=1"]}, out=tmp_path / "two"))
    other_window = prepare(PrepareOptions(**scans, window=(-100.0, 300.0), out=tmp_path / "window"))
    encoder.model.encoded = 0
    SliceFeatures(more_labels.images, encoder, tmp_path).fill(np.arange(12))
    assert encoder.model.encoded == 0
    found = SliceFeatures(other_window.images, encoder, tmp_path)
    slices = torch.from_numpy(other_window.images[:].astype(np.float32))
    assert np.array_equal(found[np.arange(12)], encoder(slices).numpy())


def test_another_encoder_has_features_of_its_own(store, tmp_path):
    first = SliceFeatures(store.images, block_means(), tmp_path)[np.arange(2)]
    other = SliceFeatures(store.images, block_means(signature="other", scale=2.0), tmp_path)[np.arange(2)]
    assert np.array_equal(other, 2 * first)


def test_a_folder_of_other_features_is_refused(store, tmp_path):
    SliceFeatures(store.images, block_means(), tmp_path).fill(np.arange(4))
    (own,) = (path for path in tmp_path.iterdir() if path.is_dir())
    SliceFeatures(store.images, block_means(signature="other"), tmp_path / "other").fill(np.arange(4))
    (theirs,) = (tmp_path / "other").iterdir()
    shutil.rmtree(own)
    theirs.rename(own)
    with pytest.raises(StoreError, match="made from another image, model or window .its model differs.") as caught:
        SliceFeatures(store.images, block_means(), tmp_path)
    assert "--cache" in caught.value.cure


def test_a_full_disk_is_told_before_anything_is_encoded(store, tmp_path, monkeypatch):
    encoder = block_means()
    features = SliceFeatures(store.images, encoder, tmp_path)
    encoder.model.encoded = 0
    monkeypatch.setattr("frugalseg.features.cache.shutil.disk_usage", lambda _: SimpleNamespace(free=12 * 1024 - 1))
    with pytest.raises(DiskError, match=r"features of 12 slices take 0\.0 GB in .*, where 0\.0 GB are free"):
        features.fill(np.arange(12))
    assert encoder.model.encoded == 0
    features.fill(np.arange(11))


def test_a_damaged_file_is_encoded_again(store, tmp_path):
    features = SliceFeatures(store.images, block_means(), tmp_path)
    whole = features[np.arange(4)]
    damaged = sorted(tmp_path.rglob("*.safetensors"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        assert np.array_equal(features[np.arange(4)], whole)


def test_values_that_float16_cannot_hold_are_refused(store, tmp_path):
    with pytest.raises(RunError, match="BlockMeans hold values outside the range of float16"):
        SliceFeatures(store.images, block_means(scale=1e6), tmp_path)[np.arange(4)]


def test_resampling_is_said_once(store, tmp_path, capsys):
    SliceFeatures(store.images, block_means(), tmp_path).fill(np.arange(4))
    assert capsys.readouterr().err.count("resampled from 32×32 to its 64×64 pixels") == 1
    encoder = block_means()
    encoder.model.recipe = replace(encoder.model.recipe, size=32)
    SliceFeatures(store.images, encoder, tmp_path / "same").fill(np.arange(4))
    assert "resampled" not in capsys.readouterr().err


def test_a_batch_is_encoded_in_parts_that_fit_into_memory(store, tmp_path, monkeypatch):
    monkeypatch.setitem(SLICES_AT_ONCE, "cpu", 5)
    encoder = block_means()
    sizes, encode = [], encoder.model.encode

    def limited(pixels):
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels)

    encoder.model.encode = limited
    slices = torch.from_numpy(store.images[[0, 1, 2, 1, 0, 3]].astype(np.float32))
    expected = block_means()(slices)
    assert torch.equal(encoder(slices), expected)
    assert sizes == [5, 2, 2, 2]
    sizes.clear()
    SliceFeatures(store.images, encoder, tmp_path).fill(np.arange(12))
    assert torch.equal(encoder.with_cache(tmp_path)(slices), expected)
    assert max(sizes) <= 5


def test_only_the_content_of_a_slice_counts(store, tmp_path):
    encoder = block_means()
    copies = make_copies(store, np.array([1, 6]), 2, "robust", 1)
    joined = JoinedRows(store.images, copies.images)
    features = SliceFeatures(joined, encoder, tmp_path)
    encoder.model.encoded = 0
    features.fill(np.arange(12, 24))
    assert encoder.model.encoded == 12
    images = torch.from_numpy(copies.images.astype(np.float32))
    assert np.array_equal(features[np.arange(12, 24)], encoder(images).numpy())
    encoder.model.encoded = 0
    more = make_copies(store, np.array([6, 9]), 3, "robust", 1)
    SliceFeatures(more.images, encoder, tmp_path).fill(np.arange(18))
    assert encoder.model.encoded == 18 - 6
    encoder.with_cache(tmp_path)(images[:, :-1])  # another shape
    assert encoder.model.encoded == 18 - 6 + 12
