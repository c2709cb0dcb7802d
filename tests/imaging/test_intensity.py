from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.errors import OptionError
from frugalseg.imaging.intensity import SAMPLE, IntensityScale, detect_padding, looks_like_hu
from frugalseg.imaging.read import read_volume

CT = IntensityScale("ct", -160, 240)
MR = IntensityScale("mr", 0.5, 99.5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_the_window_of_the_paper(dtype: type) -> None:
    hu = np.array([-1024, -160, 40, 240, 3000], dtype)
    scaled = CT.apply(hu, CT.fit(hu))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [0, 0, 0.5, 1, 1]


def test_every_hu_keeps_a_value_of_its_own() -> None:
    hu = np.arange(-160, 241, dtype=np.int16)
    scaled = CT.apply(hu, CT.fit(hu))
    assert len(np.unique(scaled)) == 401
    assert len(np.unique(scaled.astype(np.float16))) == 401
    assert (np.diff(scaled.astype(np.float16)) > 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_unsigned_and_narrow_types_do_not_wrap(dtype: type) -> None:
    array = np.array([0, 100, 200], dtype).clip(0, 200)
    assert CT.apply(array, (50, 150)).tolist() == [0, 0.5, 1]


def test_apply_leaves_its_input_alone_and_takes_views() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    before = array.copy()
    view = array[::-1, :, ::-1].transpose(2, 0, 1)
    scaled = CT.apply(view, (0, 23))
    CT.apply(array, (0, 23))
    assert np.array_equal(array, before)
    assert scaled.flags.c_contiguous
    assert np.allclose(scaled, view / 23)


def test_apply_makes_no_float64_copy() -> None:
    array = np.zeros((64, 64, 64), np.int16)
    tracemalloc.start()
    CT.apply(array, (-160, 240))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * array.size * 4


def test_mr_is_scaled_by_percentiles_of_the_scan() -> None:
    array = np.arange(100_000, dtype=np.int32).reshape(10, 100, 100)
    low, high = MR.fit(array)
    assert (low, high) == pytest.approx((500, 99500), abs=1)
    scaled = MR.apply(array, (low, high))
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert np.median(scaled) == pytest.approx(0.5, abs=1e-3)
    # Percentiles follow the scan's unit: MR has none.
    assert MR.apply(array * 7 + 3, MR.fit(array * 7 + 3)) == pytest.approx(scaled, abs=1e-6)


def test_large_scans_are_sampled_well_and_always_alike() -> None:
    array = np.random.default_rng(1).gamma(2, 100, (160, 160, 120)).astype(np.float32)
    assert array.size > SAMPLE
    fitted = MR.fit(array)
    assert fitted == MR.fit(array.copy())
    ranks = [100 * float((array < v).mean()) for v in fitted]
    assert ranks == pytest.approx([0.5, 99.5], abs=0.03)


@pytest.mark.parametrize("value", [0, 7, -3, 1e6])
def test_a_constant_scan_is_black_not_an_error(value: float) -> None:
    array = np.full((4, 4, 4), value, np.float32)
    low, high = MR.fit(array)
    assert low < high
    assert (MR.apply(array, (low, high)) == 0).all()


def test_a_scan_that_is_nearly_all_background_shows_the_rest() -> None:
    array = np.zeros((20, 20, 20), np.int16)
    array[3, 4, 5] = 1000
    limits = MR.fit(array)
    assert limits == (0, 1000)
    assert MR.apply(array, limits)[3, 4, 5] == 1


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_results_lie_between_0_and_1_in_the_same_order(values: list[int]) -> None:
    array = np.sort(np.array(values, np.int16))
    for scale in (CT, MR):
        low, high = scale.fit(array)
        assert low < high
        scaled = scale.apply(array, (low, high))
        assert np.isfinite(scaled).all()
        assert 0 <= scaled.min() <= scaled.max() <= 1
        assert (np.diff(scaled) >= 0).all()


@pytest.mark.parametrize("scale", [CT, MR])
def test_there_and_back_through_json(scale: IntensityScale) -> None:
    assert IntensityScale(**json.loads(json.dumps(asdict(scale)))) == scale


@pytest.mark.parametrize(
    ("kind", "low", "high", "words"),
    [
        ("ct", 240, -160, "--window"),
        ("ct", 1, 1, "--window"),
        ("ct", float("nan"), 1, "--window"),
        ("mr", -1, 99, "--percentiles"),
        ("mr", 1, 101, "--percentiles"),
        ("pet", 0, 1, "--modality"),
    ],
)
def test_impossible_scales_name_the_option(kind: str, low: float, high: float, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        IntensityScale(kind, low, high)  # type: ignore[arg-type]


def test_padding_is_left_out_of_percentiles_and_picture() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(5, 457, (12, 20, 20)).astype(np.int16)
    array = values.copy()
    array[:, :8] = -32768
    limits = MR.fit(array, -32768)
    assert limits == pytest.approx(np.percentile(values[:, 8:], (0.5, 99.5)))
    assert MR.fit(array)[0] == -32768
    shown = MR.apply(array, limits, -32768)
    assert (shown[:, :8] == 0).all()
    assert np.array_equal(shown[:, 8:], MR.apply(values[:, 8:], limits))
    # Even where padding lies within the limits it is dark.
    assert (CT.apply(np.array([40, 41], np.int16), CT.fit(array), 40) == np.array([0, 0.5025], np.float32)).all()


def test_a_scan_of_padding_and_one_value() -> None:
    array = np.array([[[-9, -9, 7]]], np.int16)
    low, high = MR.fit(array, -9)
    assert low < high
    assert np.isfinite(MR.apply(array, (low, high), -9)).all()


@pytest.mark.parametrize("outside", [-32768, -2000, 32767, 65535])
def test_what_looks_like_padding(outside: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(5, 457, (12, 20, 20))
    assert detect_padding(values) is None
    values[:, :8] = outside
    found = detect_padding(values)
    assert found is not None
    assert found == (outside, pytest.approx(0.4), 5, 456)


def test_what_does_not_look_like_padding() -> None:
    rng = np.random.default_rng(0)
    ct = rng.normal(40, 30, (20, 20, 20))
    ct[:8] = -1024  # air, clipped
    assert detect_padding(ct) is None
    assert detect_padding(np.where(ct > 40, 1, 0)) is None
    stripped = np.where(ct < 0, 0, ct + 800)
    assert detect_padding(stripped) is None
    ct[9, 9, 9] = -5000  # a single voxel is no padding
    assert detect_padding(ct) is None
    assert detect_padding(np.full((3, 3, 3), -2000)) is None


def test_what_looks_like_hu() -> None:
    rng = np.random.default_rng(0)
    body = rng.normal(40, 30, (30, 30, 30))
    body[:5] = -1000
    assert looks_like_hu(body.astype(np.int16))
    assert looks_like_hu(body.clip(-40, 160))
    assert not looks_like_hu((body + 1024).astype(np.uint16))
    magnitude = rng.gamma(2, 200, (30, 30, 30))
    assert not looks_like_hu(magnitude)
    assert not looks_like_hu((magnitude - magnitude.mean()) / magnitude.std())
    magnitude[:1, :2] = -50  # interpolation undershoots
    assert not looks_like_hu(magnitude)


@pytest.mark.parametrize(
    ("name", "expected"), [("btcv_ct", True), ("lits_ct", True), ("chaos_mr_t2", False), ("hippocampus_mr", False)]
)
def test_real_scans_look_like_what_they_are(shared_data: Path, name: str, expected: bool) -> None:
    for path in sorted((shared_data / name / "images").iterdir())[:4]:
        assert looks_like_hu(read_volume(path).array) == expected, path.name
