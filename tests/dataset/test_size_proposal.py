"""`prepare` proposes the size that the smallest organ needs, and no larger one than is of use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import UNSET

from frugalseg.dataset.size_proposal import COMFORTABLE_PIXELS, TRAINING_BYTES, propose_size
from frugalseg.imaging.square import Square
from tests.dataset.test_small_organs import median_pixels, prepare_with_gland
from tests.stores import store_record

PLENTY = 64 << 30


def record(own_size=512, **pixels):
    """A store at 128² of one scan, whose organs cover so many pixels of 4×4 mm."""
    made = store_record({organ: (n,) for n, organ in enumerate(pixels, start=1)}, size=128)
    areas = tuple(16.0 * covered for covered in pixels.values())
    return replace(made, scans=(replace(made.scans[0], areas_mm2=areas, own_size=own_size),))


def test_the_smallest_organ_gets_enough_pixels_and_no_smaller_size_would_do():
    found = propose_size(record(liver=900, adrenal=10, aorta=40), PLENTY)
    assert (found.organ, found.larger, found.limit) == ("adrenal", 224, "")  # 128 · √(25/10) = 202.4
    assert 10 * (found.larger / 128) ** 2 >= COMFORTABLE_PIXELS > 10 * ((found.larger - 32) / 128) ** 2
    assert found.describe() == (
        "the smallest organ, adrenal, covers 10 pixels of a typical slice; prepared with --size 224 it would cover 31, "
        "and a training would take 3.1 times the time and memory"
    )


def test_no_larger_than_the_resolution_of_the_scans():
    found = propose_size(record(adrenal=10, own_size=160), PLENTY)
    assert (found.larger, found.limit) == (160, "the scans hold no more detail")
    assert "--size 160 it would cover 16 (the scans hold no more detail)," in found.describe()
    assert propose_size(record(adrenal=10, own_size=128), PLENTY) is None
    assert propose_size(record(adrenal=10, own_size=UNSET), PLENTY).larger == 224


def test_no_larger_than_fits_in_memory():
    found = propose_size(record(adrenal=10), 192**2 * TRAINING_BYTES)
    assert (found.larger, found.limit) == (192, "a training on this CPU needs to fit in memory")
    assert propose_size(record(adrenal=10), 128**2 * TRAINING_BYTES) is None


def test_organs_that_are_large_enough_or_of_unknown_area_need_no_other_size():
    assert propose_size(record(liver=900, aorta=COMFORTABLE_PIXELS), PLENTY) is None
    assert propose_size(store_record({"liver": (6,)}), PLENTY) is None
    assert propose_size(store_record(), PLENTY) is None


@pytest.mark.parametrize(
    ("shape", "spacing", "own"), [((512, 512), (0.7, 0.7), 512), ((100, 80), (2.0, 1.0), 200), ((35, 51), (1, 1), 51)]
)
def test_the_own_size_of_slices_keeps_every_pixel(shape, spacing, own):
    square = Square.fit(shape, spacing, 64)
    assert square.own_size == own
    assert min(Square.fit(shape, spacing, own).pixel_spacing) == pytest.approx(min(spacing))


def test_prepare_prints_the_proposal_and_the_larger_store_keeps_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("frugalseg.dataset.prepare_summary.free_host_memory", lambda: PLENTY)
    store = prepare_with_gland(tmp_path, side=4, size=64)
    said = "".join(capsys.readouterr())
    assert "the smallest organ, gland, covers 7 pixels of a typical slice" in said
    assert "--size 96 it would cover 16 (the scans hold no more detail)" in said
    assert {scan.own_size for scan in store.record.scans} == {96}
    larger = prepare_with_gland(tmp_path, side=4, size=96)
    assert median_pixels(larger, "gland") == 16
    assert "the smallest organ" not in "".join(capsys.readouterr())
