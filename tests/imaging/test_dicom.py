from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from frugalseg.errors import ScanError
from frugalseg.imaging.dicom import load_dicom
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.volume import Volume
from tests.imaging.scans import write_series, write_slice


def pixel(volume: Volume, row: int, column: int, z: int) -> float:
    return float(volume.array[column, volume.array.shape[1] - 1 - row, z])


def test_a_shuffled_series_is_sorted_and_placed(tmp_path: Path) -> None:
    write_series(tmp_path)
    volume = load_dicom(tmp_path)
    assert volume.array.shape == (6, 4, 5)
    assert volume.array.dtype == np.int16
    for row, column, z in np.ndindex(4, 6, 5):
        assert pixel(volume, row, column, z) == 100 * z + 6 * row + column
        # DICOM's own equation (PS3.3 C.7.6.2.1.1), then LPS → RAS.
        lps = np.array([-20 + 0.75 * column, -30 + 1.5 * row, 100 + 2.5 * z])
        assert np.allclose((volume.affine @ [column, 3 - row, z, 1])[:3], lps * [-1, -1, 1])
    assert nib.aff2axcodes(volume.affine) == ("L", "A", "S")


@pytest.mark.parametrize(
    ("orientation", "step", "axes"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, -3), "LAS"),  # numbered from the head down
        ((-1, 0, 0, 0, -1, 0), (0, 0, 3), "RPS"),  # prone
        ((1, 0, 0, 0, -1, 0), (0, 0, 3), "LPS"),  # rows mirrored: the normal points down, slices still run up
        ((1, 0, 0, 0, 0, -1), (0, 3, 0), "LSP"),  # coronal
        ((0, 1, 0, 0, 0, -1), (3, 0, 0), "PSR"),  # sagittal
        ((0.8, 0.6, 0, -0.6, 0.8, 0), (0, 0, 3), "LAS"),  # oblique
    ],
)
def test_every_orientation(tmp_path: Path, orientation: tuple[float, ...], step: tuple[float, ...], axes: str) -> None:
    write_series(tmp_path, step=step, orientation=orientation)
    volume = load_dicom(tmp_path)
    assert "".join(nib.aff2axcodes(volume.affine)) == axes
    row_way, column_way = np.array(orientation[:3]), np.array(orientation[3:])
    for row, column, k in np.ndindex(4, 6, 5):
        lps = np.array([-20, -30, 100]) + 0.75 * column * row_way + 1.5 * row * column_way + k * np.array(step)
        index = np.linalg.inv(volume.affine) @ [*lps * [-1, -1, 1], 1]
        x, y, z = np.rint(index[:3]).astype(int)
        assert np.allclose(index[:3], [x, y, z], atol=1e-6)
        assert volume.array[x, y, z] == 100 * k + 6 * row + column


def test_the_tilt_of_a_gantry_stays_in_the_affine(tmp_path: Path) -> None:
    write_series(tmp_path, step=(0, 0.8, 2.5))
    volume = load_dicom(tmp_path)
    assert np.allclose(volume.affine[:3, 2], [0, -0.8, 2.5])
    assert abs(volume.affine[:3, 1] @ volume.affine[:3, 2]) > 1
    assert pixel(volume, 0, 0, 4) == 400


def test_rescaling_is_done_file_by_file(tmp_path: Path) -> None:
    for z in range(3):
        write_slice(
            tmp_path / f"{z}.dcm", np.full((4, 6), 10, np.int16), (0, 0, z), RescaleSlope=z + 1, RescaleIntercept=-1000
        )
    volume = load_dicom(tmp_path)
    assert volume.array.dtype == np.int16
    assert volume.array[0, 0].tolist() == [-990, -980, -970]


def test_fractional_slopes_give_float32(tmp_path: Path) -> None:
    write_series(tmp_path, RescaleSlope=0.5, RescaleIntercept=1)
    volume = load_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    assert pixel(volume, 0, 1, 3) == 151.5


def test_values_beyond_int16_give_float32_without_wrapping(tmp_path: Path) -> None:
    for z, value in enumerate((7, 60000, 8)):
        write_slice(tmp_path / f"{z}.dcm", np.full((4, 6), value, np.uint16), (0, 0, z))
    volume = load_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    assert volume.array[0, 0].tolist() == [7, 60000, 8]


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    path = write_series(tmp_path, count=1)[0]
    for volume in (load_dicom(tmp_path), load_dicom(path)):
        assert volume.array.shape == (6, 4, 1)
        assert volume.spacing == pytest.approx((0.75, 1.5, 5))
    write_slice(tmp_path / "IM000", np.zeros((4, 6), np.int16), (0, 0, 0), SliceThickness=None)
    with pytest.raises(ScanError, match="single slice without SliceThickness"):
        load_dicom(tmp_path)


def test_a_missing_class_and_notes_beside_the_slices_do_no_harm(tmp_path: Path) -> None:
    write_series(tmp_path, SOPClassUID=None, SOPInstanceUID=None)
    (tmp_path / "LICENSE.txt").write_text("note")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert load_dicom(tmp_path).array.shape == (6, 4, 5)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_and_meta_header_are_read(tmp_path: Path, implicit: bool) -> None:
    for path in write_series(tmp_path):
        bare = Dataset(dcmread(path))
        dcmwrite(path, bare, implicit_vr=implicit, little_endian=True)
        assert b"DICM" not in path.read_bytes()
    assert pixel(load_dicom(tmp_path), 1, 2, 3) == 308


def expect(folder: Path, *words: str) -> None:
    with pytest.raises(ScanError) as caught:
        load_dicom(folder)
    for word in (*words, str(folder)):
        assert word in caught.value.problem
    assert caught.value.cure


def test_a_missing_slice_is_placed(tmp_path: Path) -> None:
    write_series(tmp_path)[2].unlink()
    expect(tmp_path, "lacks 1 slice at position (-20, -30, 105) mm", "5.000 mm, 2.500 mm elsewhere")


def test_double_positions_name_both_files(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    shutil.copy(files[3], tmp_path / "copy")
    expect(tmp_path, "copy", files[3].name, "same position", "(-20, -30, 107.5)")


def test_uneven_gaps(tmp_path: Path) -> None:
    for k, z in enumerate((0, 1, 2, 3.3, 4.3)):
        write_slice(tmp_path / f"{k}.dcm", np.zeros((4, 6), np.int16), (0, 0, z))
    expect(tmp_path, "uneven slices", "1.300 mm", "2.dcm and 3.dcm")


def write_at(folder: Path, *heights: float) -> None:
    for k, z in enumerate(heights):
        write_slice(folder / f"{k:02d}.dcm", np.zeros((4, 6), np.int16), (0, 0, z))


def test_a_scan_of_two_slice_distances_lacks_no_slice(tmp_path: Path) -> None:
    write_at(tmp_path, *range(0, 27, 3), *range(30, 72, 6))
    with pytest.raises(ScanError) as caught:
        load_dicom(tmp_path)
    assert "uneven slices: 3 mm below 08.dcm, 6 mm above it" in caught.value.problem
    assert "lacks" not in caught.value.problem
    assert "dcm2niix" in caught.value.cure


def test_a_scan_of_many_slice_distances_counts_them(tmp_path: Path) -> None:
    write_at(tmp_path, 0, 5, 10, 12.5, 15, 20, 25, 40)
    expect(tmp_path, "uneven slices", "5.00 mm (4 times)", "2.50 mm (2 times)", "15.00 mm (1 times)")


def test_two_missing_slices_among_many(tmp_path: Path) -> None:
    write_at(tmp_path, *(z for z in range(30) if z not in (7, 20)))
    expect(tmp_path, "lacks 1 slice at position (0, 0, 7) mm", "1 more such gap")


def test_a_slice_off_the_line(tmp_path: Path) -> None:
    for z in range(5):
        write_slice(tmp_path / f"{z}.dcm", np.zeros((4, 6), np.int16), (5 * (z == 2), 0, z))
    expect(tmp_path, "2.dcm", "off the line")


def test_several_series_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path, series="1.2.3")
    write_slice(tmp_path / "scout", np.zeros((4, 6), np.int16), (0, 0, 0), series="9.9")
    expect(tmp_path, "2 series", "1.2.3", "5 files", "9.9", "1 files", "scout", "series 9.9")


def test_series_without_identity_are_told_apart_by_number(tmp_path: Path) -> None:
    write_series(tmp_path, series="")
    assert load_dicom(tmp_path).array.shape == (6, 4, 5)
    write_slice(tmp_path / "scout", np.zeros((4, 6), np.int16), (0, 0, 0), series="", SeriesNumber=2)
    expect(tmp_path, "2 series", "series number 2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixels": np.zeros((8, 8), np.int16)}, "size in pixels (8, 8)"),
        ({"spacing": (1.5, 0.8)}, "pixel spacing (1.5, 0.8)"),
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "orientation (1, 0, 0, 0, 0, -1)"),
    ],
)
def test_a_slice_unlike_the_others_is_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    write_series(tmp_path)
    options = {"pixels": np.zeros((4, 6), np.int16), "position": (-20, -30, 112.5), **changes}
    write_slice(tmp_path / "localizer", **options)  # type: ignore[arg-type]
    expect(tmp_path, "localizer", words, "1 of 6 files differ")


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 3, "PixelData": bytes(3 * 48)}, "multi-frame"),
        ({"Rows": None, "Modality": "SR"}, "holds no image (modality SR)"),
        ({"SamplesPerPixel": 3}, "colours"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "impossible ImageOrientationPatient"),
        ({"PixelSpacing": [0, 1]}, "zero spacing"),
        ({"PixelData": bytes(20)}, "cannot be decoded"),
        ({"PixelData": None}, "cannot be decoded"),
    ],
)
def test_files_that_are_no_slice_are_named(tmp_path: Path, tags: dict[str, object], words: str) -> None:
    write_series(tmp_path, count=2)
    write_slice(tmp_path / "odd.dcm", np.zeros((4, 6), np.int16), (-20, -30, 105), **tags)
    expect(tmp_path, "odd.dcm", words)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 500])
def test_a_broken_file_among_the_slices_is_named(tmp_path: Path, content: bytes) -> None:
    write_series(tmp_path)
    (tmp_path / "IM005").write_bytes(content)
    expect(tmp_path, "IM005", "lies among DICOM files but is not a DICOM file")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write_series(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-30])
    expect(tmp_path, path.name)


def test_the_real_compressed_series_lies_on_the_grid_of_its_labels(shared_data: Path) -> None:
    example = shared_data / "totalsegmentator_example"
    volume = read_volume(example / "dicom_ct")
    labels = read_labels(example / "example_seg_dicom.nii.gz")
    assert volume.array.shape == labels.array.shape == (512, 512, 20)
    assert np.allclose(volume.affine, labels.affine, rtol=0, atol=1e-9)
    assert volume.array.dtype == np.int16
    # Enhanced spleen and liver: mirrored or shifted labels would hold air and bone.
    for organ in (1, 5):
        assert 60 < np.median(volume.array[labels.array == organ]) < 130
