"""Organs that cover few pixels at a store's size are found, and the size that shows them is right."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from msgspec import UNSET

from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.small_organs import FEWEST_PIXELS, find_small_organs, median_areas_mm2
from frugalseg.options import PrepareOptions
from tests.scans import AFFINE_LPS
from tests.stores import store_record


def prepare_with_gland(folder, side, size):
    """The store of three scans of 96×96 pixels with a liver, and a gland of side×side pixels in four slices."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for n in range(3):
        labels = np.zeros((96, 96, 8), np.uint8)
        labels[20:60, 20:60, 1:7] = 6
        labels[70 : 70 + side, 64 + n : 64 + n + side, 2:6] = 9
        image = (labels * 10.0 - 1000 * (np.arange(96) > 80)[:, None, None] + rng.normal(0, 5, labels.shape)).astype(
            np.int16
        )
        for kind, array in (("images", image), ("labels", labels)):
            nib.save(nib.Nifti1Image(array, AFFINE_LPS), folder / kind / f"scan_{n}.nii.gz")
    options = {"images": folder / "images", "labels": folder / "labels", "target": ["liver=6", "gland=9"]}
    return prepare(PrepareOptions(**options, modality="ct", size=size, out=folder / f"store-{size}", workers=0))


def median_pixels(store, organ):
    counts = (store.labels == list(store.targets).index(organ) + 1).sum(axis=(1, 2))
    return np.median(counts[store.slices[f"has_{organ}"].to_numpy()])


def test_prepare_warns_of_a_small_organ_and_proposes_a_size_that_shows_it(tmp_path):
    with pytest.warns(UserWarning, match=r"gland covers only 1 pixel of a typical slice at --size 32 .* --size 96$"):
        store = prepare_with_gland(tmp_path, side=3, size=32)
    assert median_pixels(store, "gland") < FEWEST_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        larger = prepare_with_gland(tmp_path, side=3, size=96)
    assert median_pixels(larger, "gland") >= FEWEST_PIXELS
    assert [scan.areas_mm2 for scan in larger.record.scans] == [(40 * 40 * 16, 9 * 16)] * 3
    assert larger.record.scans[0].areas_mm2 == store.record.scans[0].areas_mm2


def test_an_organ_that_no_practical_size_shows():
    record = store_record({"gland": (9,)}, size=32)
    (small,) = find_small_organs(replace(record, scans=(replace(record.scans[0], areas_mm2=(0.004 * 16,)),)))
    assert small.size is None  # 32 · √(5/0.004) = 1131
    assert "even --size 1024 would not" in small.describe(32)


def test_the_median_is_over_the_slices_that_show_the_organ():
    voxels = np.array([[0, 0, 9], [0, 2, 1], [0, 4, 0], [0, 0, 5]])
    assert median_areas_mm2(voxels, 0.5) == (0.0, 1.5, 2.5)


def test_only_the_given_scans_are_counted_and_older_stores_make_no_claim():
    record = store_record({"gland": (9,)}, size=32)
    small, large = (
        replace(record.scans[0], case=case, areas_mm2=(area,)) for case, area in (("small", 2 * 16.0), ("large", 160.0))
    )
    both = replace(record, scans=(small, large))
    assert find_small_organs(both) == []
    assert [found.size for found in find_small_organs(both, {"small"})] == [64]  # 32 · √(5/2) = 50.6
    assert find_small_organs(both, {"large"}) == []
    assert find_small_organs(replace(record, scans=(replace(small, areas_mm2=UNSET),))) == []


def test_a_scan_without_the_area_of_every_organ_is_damaged(tmp_path):
    record = store_record({"gland": (9,)}, size=32)
    content = json.loads(json.dumps(record.to_json()))
    content["scans"][0]["areas_mm2"] = []
    with pytest.raises(Exception, match="does not state the area of every organ"):
        type(record).parse(content, tmp_path / "store.json")
