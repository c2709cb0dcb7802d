"""Superpixels: scikit-image's own of the published call, parallel, resumable, and added to a store without harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.segmentation import slic as published

from frugalseg.dataset import superpixels as module
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.dataset.superpixels import Slic, lightness, prepare_superpixels
from frugalseg.errors import OptionError, StoreError
from frugalseg.options import PrepareOptions, SuperpixelOptions
from frugalseg.records.store import SuperpixelParameters
from tests.scans import write_cohort


@pytest.fixture
def options(tmp_path):
    images, labels = write_cohort(tmp_path, 4)
    return PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=tmp_path / "store")


def picture(seed=0, size=96):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    smooth = 0.5 + 0.3 * np.sin(5 * x + seed) * np.cos(4 * y)
    return np.clip(smooth + rng.normal(0, 0.03, (size, size)), 0, 1).astype(np.float32)


def test_lightness_is_scikit_images_of_three_equal_channels():
    from skimage.color import rgb2lab

    grey = picture()
    grey = (grey - grey.min()) / np.ptp(grey)
    np.testing.assert_allclose(lightness(grey), rgb2lab(np.stack([grey] * 3, axis=2))[..., 0], atol=1e-3)


@pytest.mark.parametrize(("segments", "compactness"), [(25, 10.0), (60, 10.0), (25, 1.0)])
def test_equals_the_published_call_with_three_channels(segments, compactness):
    image = picture()
    theirs = published(np.stack([image] * 3, axis=2), n_segments=segments, compactness=compactness, start_label=0)
    ours = Slic(segments, compactness)(image)
    assert ours.dtype == np.uint16
    assert (ours == theirs).mean() > 0.99
    assert ours.min() == 0


def test_a_constant_slice_is_one_superpixel():
    assert not Slic(25, 10.0)(np.full((32, 32), 0.4, np.float32)).any()


def test_the_usual_number_leaves_each_superpixel_ten_cells():
    assert Slic.for_size(512, None, 10.0).segments == 100
    assert Slic.for_size(256, None, 10.0).segments == 25
    assert Slic.for_size(64, None, 10.0).segments == 16
    assert Slic.for_size(256, 77, 10.0).segments == 77


def test_prepare_computes_them_of_every_slice(options):
    store = prepare(replace(options, superpixels=True, segments=12))
    assert store.superpixels.shape == store.images.shape
    assert store.superpixels.dtype == np.uint16
    assert store.superpixel_parameters == SuperpixelParameters(segments=12, compactness=10.0)
    for row in (0, 17, 30, len(store.slices) - 1):
        np.testing.assert_array_equal(store.superpixels[row], Slic(12, 10.0)(store.images[row]))


def test_adding_them_leaves_all_else_and_the_stores_identity_as_they_were(options):
    plain = prepare(options)
    before = {path.name: path.read_bytes() for path in plain.folder.iterdir() if path.name != "store.json"}
    identity = plain.identity(plain.split())
    store = prepare_superpixels(SuperpixelOptions(data=plain.folder))
    assert {path.name for path in store.folder.iterdir()} == {*before, "store.json", "superpixels.npy"}
    assert {name: (store.folder / name).read_bytes() for name in before} == before
    assert SliceStore.open(store.folder).identity(store.split()) == identity
    assert prepare(replace(options, superpixels=True)).superpixel_parameters == store.superpixel_parameters


def test_what_an_interruption_left_is_kept(options, monkeypatch):
    store = prepare(options)
    done = []

    def work(job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.part.name)
        return original(job)

    original = module._segment_scan
    monkeypatch.setattr(module, "_segment_scan", work)
    options = SuperpixelOptions(data=store.folder, workers=0)
    with pytest.raises(KeyboardInterrupt):
        prepare_superpixels(options)
    assert SliceStore.open(store.folder).superpixel_parameters is None
    again = []
    monkeypatch.setattr(module, "_segment_scan", lambda job: again.append(job.part.name) or original(job))
    whole = prepare_superpixels(options)
    assert set(again) == {f"scan_{i:02d}.map" for i in range(4)} - set(done)
    for row in (0, 20, 40):
        np.testing.assert_array_equal(whole.superpixels[row], Slic(16, 10.0)(whole.images[row]))


def test_other_superpixels_are_refused_until_the_old_ones_are_gone(options):
    store = prepare(replace(options, superpixels=True))
    other = SuperpixelOptions(data=store.folder, segments=9)
    with pytest.raises(StoreError, match=r"16 segments of compactness 10, not 9 segments") as error:
        prepare_superpixels(other)
    assert "superpixels.npy" in error.value.cure
    (store.folder / "superpixels.npy").unlink()
    assert prepare_superpixels(other).superpixel_parameters.segments == 9


def test_a_store_without_them_says_how_to_add_them(options):
    store = prepare(options)
    with pytest.raises(StoreError, match="no superpixels") as error:
        _ = store.superpixels
    assert f"frugalseg prepare superpixels --data {store.folder}" in error.value.cure


@pytest.mark.parametrize("values", [{"segments": 1}, {"segments": 70_000}, {"compactness": 0.0}])
def test_bad_values(values, tmp_path):
    with pytest.raises(OptionError):
        SuperpixelOptions(data=tmp_path, **values)
