"""Stores whose arrays are divided into several files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.dataset import shards
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.shards import ShardedArray, plan_shards
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import read_json, write_json
from frugalseg.errors import DiskError, StoreError
from frugalseg.options import PrepareOptions
from tests.engine.test_full_disk import limit_file_size
from tests.scans import write_cohort

SIDE = 32
TWO_SCANS = 2 * 12 * SIDE * SIDE * 2
"""Bytes of the images of two of the five scans."""


def make(folder, limit, out, **more):
    images, labels = folder / "images", folder / "labels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", limit)
        return prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=SIDE, out=out, **more))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same scans in one file, and in three."""
    folder = tmp_path_factory.mktemp("shards")
    write_cohort(folder, 5)
    with_superpixels = {"superpixels": True, "segments": 9}
    return [
        make(folder, limit, folder / name, **with_superpixels)
        for name, limit in (("one", 1 << 30), ("three", TWO_SCANS))
    ]


@pytest.fixture
def divided(tmp_path):
    write_cohort(tmp_path, 5)
    return make(tmp_path, TWO_SCANS, tmp_path / "store")


def test_a_divided_store_is_the_same_store(stores):
    one, three = stores
    assert (one.record.shards or (), three.record.shards) == ((), (24, 24, 12))
    assert {path.name for path in three.folder.glob("*.npy")} == {
        f"{array}-000{i}.npy" for array in ("images", "labels", "superpixels") for i in range(3)
    }
    for array in ("images", "labels", "superpixels"):
        assert np.array_equal(getattr(one, array), getattr(three, array))
        assert getattr(three, array).dtype == getattr(one, array).dtype
    assert one.identity(one.split(), superpixels=True) == three.identity(three.split(), superpixels=True)
    three.check_content(("images", "labels", "superpixels"))


@pytest.mark.parametrize("resident", [True, False])
def test_batches_of_a_divided_store_are_those_of_one_file(stores, resident):
    sources = [
        SliceSource(store, torch.device("cpu"), True, resident, context=1, with_superpixels=True) for store in stores
    ]
    rows = [torch.tensor([0, 59, 23, 24, 48, 47]), torch.tensor([30, 30, 1])]
    for one, three in zip(*(source.stream(rows) for source in sources), strict=True):
        for field in ("images", "labels", "superpixels"):
            assert torch.equal(getattr(one, field), getattr(three, field))


def test_indices_are_those_of_numpy():
    whole = np.arange(20).reshape(10, 2)
    divided = ShardedArray([whole[:3], whole[3:4], whole[4:]])
    for rows in (
        0,
        3,
        9,
        -1,
        slice(2, 7),
        slice(None),
        slice(8, 1, -3),
        np.array([9, 3, 3, 0]),
        np.array([[1, 2], [4, 5]]),
    ):
        assert np.array_equal(divided[rows], whole[rows])
    assert divided[np.array([], int)].shape == (0, 2)
    for rows in (10, -11, np.array([0, 10])):
        with pytest.raises(IndexError):
            divided[rows]


def test_a_scan_is_never_divided(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 10)
    assert plan_shards([3, 4, 3, 20, 1, 9], 1) == (10, 20, 10)
    assert plan_shards([3, 4, 3], 1) == ()


def test_a_missing_shard_is_named(divided):
    (divided.folder / "labels-0001.npy").unlink()
    with pytest.raises(StoreError, match=r"labels-0001\.npy is missing"):
        SliceStore.open(divided.folder).check_arrays()


def test_a_cut_off_shard_is_named(divided):
    path = divided.folder / "images-0002.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"images-0002\.npy cannot be read"):
        SliceStore.open(divided.folder).check_arrays()


def test_a_changed_shard_is_named_with_its_scan(divided):
    path = divided.folder / "labels-0001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"labels-0001\.npy changed .* the slices of scan_03"):
        SliceStore.open(divided.folder).check_content(["labels"])


def test_shards_in_another_order_are_noticed(divided):
    first, second = (divided.folder / f"images-000{i}.npy" for i in (0, 2))
    second.write_bytes(first.read_bytes())
    with pytest.raises(StoreError, match=r"images-0002\.npy belongs to another store"):
        SliceStore.open(divided.folder).check_arrays()


def test_shards_that_do_not_add_up_are_damage(divided):
    path = divided.folder / "store.json"
    write_json(path, {**read_json(path), "shards": [24, 24]})
    with pytest.raises(StoreError, match="its shards have 48 slices, its scans 60"):
        SliceStore.open(divided.folder)


def test_only_a_divided_store_has_the_new_format(stores):
    contents = [read_json(store.folder / "store.json") for store in stores]
    assert [content["format"] for content in contents] == [1, 2]  # earlier versions read the first
    assert "shards" not in contents[0]


def test_a_newer_format_is_refused(divided):
    path = divided.folder / "store.json"
    write_json(path, {**read_json(path), "format": 3})
    with pytest.raises(StoreError, match="has format 3, this version of frugalseg reads up to 2"):
        SliceStore.open(divided.folder)


def test_after_a_full_disk_the_same_command_goes_on(tmp_path, capsys):
    write_cohort(tmp_path, 5)
    begun = 12 * SIDE * SIDE * 2 + 1000  # a part fits, two scans in one file do not
    with limit_file_size(begun), pytest.raises(DiskError, match=r"images-0000\.npy"):
        make(tmp_path, TWO_SCANS, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = make(tmp_path, TWO_SCANS, tmp_path / "store")
    assert "5 of 5 scans are already prepared" in capsys.readouterr().err
    store.check_content(("images", "labels"))
