"""Cached embeddings: reused when they fit, refused when they do not, never read incompletely."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from frugalseg.errors import DeviceError, StoreError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import (
    Embedder,
    EmbeddingCache,
    ScanSlices,
    hash_signature,
    make_embedding_signature,
    to_half_precision,
)
from tests.padded import check_shown, write_padded_mr
from tests.promptable.fake import Bright
from tests.scans import AFFINE_LPS, tiny_scan

WINDOW = IntensityScale("ct", -160, 240)


@pytest.fixture
def scan():
    return ScanSlices.of(Volume(tiny_scan()[0], AFFINE_LPS), WINDOW)


def embed(model, scan, folder, order=range(12), batch=5):
    embedder = Embedder(model, scan, folder, Batches(batch, "slices"))
    return embedder(list(order))["image"], embedder


def test_slices_are_encoded_once_in_batches_and_then_come_from_disk(scan, tmp_path):
    first, second, none = Bright(), Bright(), Bright()
    fresh, embedder = embed(first, scan, tmp_path)
    assert (first.encoded, embedder.encoded, embedder.kept) == ([5, 5, 2], 12, 0)
    kept, embedder = embed(second, scan, tmp_path, order=[7, 3, 3])
    assert (second.encoded, embedder.encoded, embedder.kept) == ([], 0, 2)
    assert torch.equal(kept, fresh[[7, 3, 3]])
    assert torch.equal(embed(none, scan, None)[0], fresh)  # no cache, the same numbers


def test_only_what_is_missing_is_encoded_and_the_order_stays(scan, tmp_path):
    whole = embed(Bright(), scan, None)[0]
    embed(Bright(), scan, tmp_path, order=[2, 5])
    model = Bright()
    mixed = embed(model, scan, tmp_path, order=[5, 0, 2, 9])[0]
    assert model.encoded == [2]
    assert torch.equal(mixed, whole[[5, 0, 2, 9]])


@pytest.mark.parametrize("other", ["voxel", "window", "model", "recipe"])
def test_whatever_changes_the_embedding_changes_the_signature(scan, other):
    before = hash_signature(make_embedding_signature(scan, Bright()))
    model = Bright(signature="another" if other == "model" else "bright")
    if other == "recipe":
        model.recipe = replace(model.recipe, stretch=True)
    array = scan.volume.array.copy()
    array[3, 4, 5] += other == "voxel"
    changed = ScanSlices.of(Volume(array, AFFINE_LPS), IntensityScale("ct", -160, 200 if other == "window" else 240))
    assert hash_signature(make_embedding_signature(changed, model)) != before


def test_another_image_or_model_never_finds_these_embeddings(scan, tmp_path):
    embed(Bright(), scan, tmp_path)
    other = Bright(signature="another")
    embed(other, scan, tmp_path)
    assert sum(other.encoded) == 12
    assert len(list(tmp_path.iterdir())) == 2


def test_a_wrong_signature_is_refused(scan, tmp_path):
    right = make_embedding_signature(scan, Bright())
    here, there = EmbeddingCache(tmp_path, right), EmbeddingCache(tmp_path, replace(right, model="another"))
    there.put(0, {"image": torch.ones(1, 2)})
    (there.folder / "0000.safetensors").rename(here.folder / "0000.safetensors")
    with pytest.raises(StoreError, match="another image, model or window"):
        here.get(0)
    label = here.folder / "signature.json"
    replace(right, image="another").write(label)
    with pytest.raises(StoreError, match="its image differs"):
        EmbeddingCache(tmp_path, right)
    label.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        EmbeddingCache(tmp_path, right)


def test_a_damaged_file_is_encoded_again_and_said(scan, tmp_path):
    whole, embedder = embed(Bright(), scan, tmp_path)
    path = embedder.cache.folder / "0004.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    model = Bright()
    with pytest.warns(UserWarning, match=r"0004\.safetensors is damaged"):
        again = embed(model, scan, tmp_path)[0]
    assert model.encoded == [1]
    assert torch.equal(again, whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(model, scan, tmp_path)


def test_a_killed_write_leaves_no_file_that_is_read(scan, tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path, make_embedding_signature(scan, Bright()))

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("frugalseg.engine.files.os.fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            cache.put(3, {"image": torch.ones(1, 1000)})
    assert cache.get(3) is None
    assert [path.name for path in cache.folder.iterdir()] == ["signature.json"]


def test_half_precision_unless_a_value_is_too_large():
    small, large = (
        to_half_precision({"a": torch.tensor([1.0 / 3])}),
        to_half_precision({"a": torch.tensor([1.0 / 3]), "b": torch.tensor([1e6])}),
    )
    assert small["a"].dtype == torch.float16
    assert large["a"].dtype == large["b"].dtype == torch.float32


def test_a_slice_is_kept_alike_whatever_slices_it_was_encoded_with(scan, tmp_path):
    class Loud(Bright):
        def encode(self, pixels):
            found = super().encode(pixels)["image"] / 3
            return {"image": torch.where(found.amax((1, 2, 3), keepdim=True) == found.max(), 1e6 * found, found)}

    together = embed(Loud(), scan, tmp_path / "a", order=[0, 5])[1].cache
    types = {together.get(z)["image"].dtype for z in (0, 5)}
    assert types == {torch.float16, torch.float32}


def test_out_of_memory_halves_the_batch_permanently_with_a_message(scan, capsys):
    model = Bright(most=3)
    batches = Batches(12, "slices")
    embedder = Embedder(model, scan, None, batches)
    whole = embed(Bright(), scan, None)[0]
    assert torch.equal(embedder(list(range(12)))["image"], whole)
    assert model.encoded == [3, 3, 3, 3]
    assert batches.size == 3
    said = capsys.readouterr().err
    assert "out of memory with 12 slices at once; continuing with 6" in said
    assert "continuing with 3" in said
    with pytest.raises(DeviceError, match="is too small for one of the slices"):
        embed(Bright(most=0), scan, None)


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes",
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_full_memory_goes_by_several_names(said):
    def fails(batch):
        if len(batch) > 1:
            raise RuntimeError(said)
        return batch[0]

    assert list(Batches(4, "slices").run(fails, [1, 2, 3])) == [1, 2, 3]


def test_a_full_memory_that_says_nothing(scan):
    def fails(_):
        raise MemoryError

    with pytest.raises(DeviceError, match=r"one of the slices \(MemoryError\)"):
        list(Batches(1, "slices").run(fails, [1]))


def test_a_file_is_no_cache(scan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--cache .*file is a file"):
        embed(Bright(), scan, tmp_path / "file")


def test_other_errors_are_no_lack_of_memory():
    def fails(_):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(Batches(4, "slices").run(fails, [1, 2, 3, 4, 5]))
    assert np.array_equal(list(Batches(2, "slices").run(sum, [1, 2, 3])), [3, 3])


def test_padding_of_a_series_is_out_of_the_slices(tmp_path):
    """The slices that `refine` and `propagate` use."""
    slices = ScanSlices.of(read_volume(write_padded_mr(tmp_path)), IntensityScale("mr", 0.5, 99.5))
    check_shown(np.stack([slices(z).numpy() for z in range(len(slices))]))


def test_what_was_encoded_last_stays_in_memory_where_work_returns_to_it(scan, monkeypatch):
    model = Bright()
    embedder = Embedder(model, scan, None, Batches(1, "slices"), remembers=True)
    first = embedder([3, 4])["image"]
    assert torch.equal(embedder([4, 3])["image"], first[[1, 0]])
    assert (model.encoded, embedder.encoded, embedder.kept) == ([1, 1], 2, 0)
    monkeypatch.setattr("frugalseg.promptable.embeddings.REMEMBERED_BYTES", 3 * 2 * 64 * 64)  # three slices
    for z in (5, 6, 4, 3):  # 3 makes room for 6
        embedder([z])
    assert model.encoded == [1] * 5
