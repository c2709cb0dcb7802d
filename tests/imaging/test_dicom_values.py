"""Stored numbers of DICOM become what they mean, and padding stays out of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from frugalseg.errors import ScanError
from frugalseg.imaging.dicom import load_dicom
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_labels
from frugalseg.imaging.volume import canonical
from tests.imaging.scans import write_series, write_slice

Pixels = npt.NDArray[Any]

MR = IntensityScale("mr", 0.5, 99.5)


def lut(*entries: int) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [len(entries), 0, 16]
    table.LUTData = np.array(entries, "<u2").tobytes()
    table.ModalityLUTType = "US"
    return table


def expect(folder: Path, *words: str) -> None:
    with pytest.raises(ScanError) as caught:
        load_dicom(folder)
    for word in (*words, str(folder)):
        assert word in caught.value.problem
    assert caught.value.cure


def without(path: Path, *tags: str) -> None:
    dataset = dcmread(path)
    for tag in tags:
        delattr(dataset, tag)
    dataset.save_as(path)


@pytest.mark.parametrize("tags", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",), ("RescaleSlope",)])
def test_slices_that_lost_their_rescaling_are_named(tmp_path: Path, tags: tuple[str, ...]) -> None:
    files = write_series(tmp_path, RescaleIntercept=-1024)
    for path in files[1:3]:
        without(path, *tags)
    expect(tmp_path, "another rescaling", files[1].name, files[2].name, "RescaleSlope and RescaleIntercept: 3")


def test_a_series_without_rescaling_is_as_stored(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        without(path, "RescaleSlope", "RescaleIntercept")
    assert load_dicom(tmp_path).array.max() == 423


def test_slices_in_other_units_are_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, RescaleType="HU")
    dataset = dcmread(files[3])
    dataset.RescaleType = "US"
    dataset.save_as(files[3])
    expect(tmp_path, "another unit (RescaleType) (US: 1) than most (HU: 4)", files[3].name)


def test_each_slice_of_pet_has_a_slope_of_its_own(tmp_path: Path) -> None:
    for z, slope in enumerate((0.5, 1.25, 2)):
        write_slice(tmp_path / f"{z}", np.full((4, 6), 10, np.int16), (0, 0, z), RescaleSlope=slope, Modality="PT")
    assert load_dicom(tmp_path).array[0, 0].tolist() == [5, 12.5, 20]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RescaleSlope": 0}, "RescaleSlope 0"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds colours (PALETTE COLOR)"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "stores bright pixels as low values (MONOCHROME1)"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "holds colours (RGB)"),
        ({"BitsStored": 12, "HighBit": 15}, "stores 12 bits below bit 15"),
    ],
)
def test_a_slice_whose_numbers_cannot_be_read_is_named(tmp_path: Path, tags: dict[str, object], words: str) -> None:
    write_series(tmp_path, count=2)
    write_slice(tmp_path / "odd.dcm", np.ones((4, 6), np.int16), (-20, -30, 105), **tags)
    expect(tmp_path, "odd.dcm", words)


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    pixels = np.arange(4, dtype=np.uint16).reshape(2, 2)
    for z in range(2):
        path = write_slice(tmp_path / str(z), pixels, (0, 0, z), ModalityLUTSequence=[lut(5, 70, 9, 1000)])
        without(path, "RescaleSlope", "RescaleIntercept")
    assert load_dicom(tmp_path).array[:, ::-1, 1].T.tolist() == [[5, 70], [9, 1000]]
    write_slice(tmp_path / "2", pixels, (0, 0, 2))
    expect(tmp_path, "another rescaling", ": 2")


def test_a_window_and_a_voi_lut_are_left_alone(tmp_path: Path) -> None:
    write_series(tmp_path, WindowCenter=40, WindowWidth=10, VOILUTSequence=[lut(9, 8, 7)])
    assert load_dicom(tmp_path).array.max() == 423


def test_signed_and_unsigned_slices_of_one_series(tmp_path: Path) -> None:
    write_slice(tmp_path / "0", np.full((4, 6), -7, np.int16), (0, 0, 0))
    write_slice(tmp_path / "1", np.full((4, 6), 40000, np.uint16), (0, 0, 1))
    assert load_dicom(tmp_path).array[0, 0].tolist() == [-7, 40000]


def test_bits_above_those_stored_are_no_part_of_the_value(tmp_path: Path) -> None:
    overlay = np.full((4, 6), 100 + (1 << 15), np.uint16)
    path = write_slice(tmp_path / "a", overlay, (0, 0, 0), BitsStored=12, HighBit=11)
    assert (load_dicom(path).array == 100).all()


def test_floating_point_pixels_keep_their_fractions(tmp_path: Path) -> None:
    values = np.linspace(0.25, 0.75, 24, dtype=np.float32).reshape(4, 6)
    none = dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    tags = {"BitsAllocated": 32, "FloatPixelData": values.tobytes(), "FloatPixelPaddingValue": 0.75, **none}
    path = write_slice(tmp_path / "a", values, (0, 0, 0), **tags)
    volume = load_dicom(path)
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array[:, ::-1, 0].T[values < 0.75], values[values < 0.75])
    assert volume.padding is not None
    assert (volume.array == volume.padding).sum() == 1


def mr_slice(path: Path, pixels: Pixels, z: int, **tags: object) -> Pixels:
    """An MR slice with the two columns at the left outside the field of view; returns where it is measured."""
    pixels = pixels.copy()
    pixels[:, :2] = tags.pop("outside", -32768)
    write_slice(path, pixels, (0, 0, z), Modality="MR", **tags)
    measured = np.ones(pixels.shape, bool)
    measured[:, :2] = False
    return measured


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        (np.int16, {"outside": -32768, "PixelPaddingValue": -32768}),
        (np.uint16, {"outside": 65535, "PixelPaddingValue": 65535}),
        (np.int16, {"outside": -1950, "PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1900}),
        (np.int16, {"outside": -1950, "PixelPaddingValue": -1900, "PixelPaddingRangeLimit": -2000}),
        (np.uint16, {"outside": 63536 & 0xFFF, "BitsStored": 12, "HighBit": 11, "PixelPaddingValue": 63536}),
    ],
)
def test_padding_is_no_intensity(tmp_path: Path, kind: type, tags: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    planes = [rng.integers(5, 457, (16, 12)).astype(kind) for _ in range(3)]
    measured = [mr_slice(tmp_path / str(z), plane, z, **tags) for z, plane in enumerate(planes)]
    volume = load_dicom(tmp_path)
    values = np.concatenate([plane[where] for plane, where in zip(planes, measured, strict=True)]).astype(float)
    assert volume.padding == values.min() - 1
    assert volume.array.dtype == np.int16
    upright, _ = canonical(volume)
    limits = MR.fit(upright.array, upright.padding)
    assert limits == pytest.approx(np.percentile(values, (0.5, 99.5)))
    outside = upright.array == upright.padding
    assert outside.sum() == 3 * 16 * 2
    shown = MR.apply(upright.array, limits, upright.padding)
    assert (shown[outside] == 0).all()
    assert shown[~outside].mean() > 0.4
    for z, (plane, where) in enumerate(zip(planes, measured, strict=True)):
        assert np.array_equal(volume.array[:, ::-1, z].T[where], plane[where])


def test_padding_is_rescaled_no_more_than_named(tmp_path: Path) -> None:
    """The tag holds a stored number: with an intercept of −1024, padding of 0 is not the voxels of 0 HU."""
    pixels = np.array([[0, 1024], [2000, 1000]], np.uint16)
    write_slice(tmp_path / "a", pixels, (0, 0, 0), RescaleIntercept=-1024, PixelPaddingValue=0)
    volume = load_dicom(tmp_path / "a")
    assert volume.array[:, ::-1, 0].T.tolist() == [[-25, 0], [976, -24]]
    assert volume.padding == -25


def test_a_slice_of_nothing_but_padding(tmp_path: Path) -> None:
    empty, some = np.full((4, 6), -2000, np.int16), np.full((4, 6), 70, np.int16)
    write_slice(tmp_path / "0", empty, (0, 0, 0), PixelPaddingValue=-2000)
    write_slice(tmp_path / "1", some, (0, 0, 1), PixelPaddingValue=-2000)
    assert load_dicom(tmp_path).array[0, 0].tolist() == [69, 70]
    (tmp_path / "1").unlink()
    expect(tmp_path, "nothing but padding")


def test_padding_that_no_voxel_holds_changes_nothing(tmp_path: Path) -> None:
    write_series(tmp_path, PixelPaddingValue=-2000)
    volume = load_dicom(tmp_path)
    assert volume.padding is None
    assert volume.array.min() == 0


def test_lowest_int16_and_padding(tmp_path: Path) -> None:
    pixels = np.array([[-32768, 5], [32767, 5]], np.int16)
    write_slice(tmp_path / "a", pixels, (0, 0, 0), PixelPaddingValue=5)
    volume = load_dicom(tmp_path / "a")
    assert volume.array.dtype == np.float32
    assert sorted(volume.array.ravel().tolist()) == [-32769, -32769, -32768, 32767]
    assert volume.padding == -32769


def test_padding_of_a_mask_is_background(tmp_path: Path) -> None:
    write_slice(tmp_path / "a", np.array([[-1, 2], [0, 1]], np.int16), (0, 0, 0), PixelPaddingValue=-1)
    mask = read_labels(tmp_path / "a")
    assert sorted(mask.array.ravel().tolist()) == [0, 0, 1, 2]
    assert mask.padding is None


def test_a_mask_on_the_grid_of_a_scan_has_no_padding(tmp_path: Path) -> None:
    write_slice(tmp_path / "a", np.array([[-9, 2], [0, 1]], np.int16), (0, 0, 0), PixelPaddingValue=-9)
    volume = load_dicom(tmp_path / "a")
    assert volume.padding is not None
    assert volume.with_array(np.zeros(volume.array.shape, np.uint8)).padding is None
