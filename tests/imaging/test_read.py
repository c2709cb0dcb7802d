from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from frugalseg.errors import ScanError
from frugalseg.imaging.read import ScanWarning, read_labels, read_volume
from tests.imaging.scans import numbered, write_series


def nifti(path: Path, array: npt.NDArray[np.generic]) -> Path:
    nib.Nifti1Image(array, np.eye(4), dtype=array.dtype).to_filename(path)
    return path


def test_every_format_is_recognised(tmp_path: Path) -> None:
    array = numbered()
    for name in ("a.nii", "a.nii.gz", "A.NII.GZ"):
        assert np.array_equal(read_volume(nifti(tmp_path / name, array)).array, array)
    for name in ("a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.seg.nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.transpose(2, 1, 0).copy()), str(tmp_path / name))
        assert np.array_equal(read_volume(tmp_path / name).array, array)
    one = write_series(tmp_path / "dicom")[0]
    assert read_volume(tmp_path / "dicom").array.shape == (6, 4, 5)
    assert read_volume(one).array.shape == (6, 4, 1)


def test_unknown_missing_and_empty_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ScanError, match=r"a\.png is not of a known format"):
        read_volume(tmp_path / "a.png")
    for name in ("gone", "gone.nii.gz"):
        with pytest.raises(ScanError, match=f"{name} does not exist"):
            read_volume(tmp_path / name)
    with pytest.raises(ScanError, match="folder without DICOM files"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_nan_and_infinity_become_the_lowest_finite_value_and_are_said(tmp_path: Path, name: str) -> None:
    array = numbered(dtype=np.float32)
    array -= 20
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, -np.inf
    if name.endswith("nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.transpose(2, 1, 0).copy()), str(tmp_path / name))
    else:
        nifti(tmp_path / name, array)
    with pytest.warns(ScanWarning, match=f"{name}: 3 of 60 voxels.*-18"):
        read = read_volume(tmp_path / name).array
    bad = ~np.isfinite(array)
    assert (read[bad] == -18).all()
    assert np.array_equal(read[~bad], array[~bad])


def test_a_scan_of_nothing_but_nan_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "nan.nii.gz", np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(ScanError, match=r"nan\.nii\.gz has no finite value"):
        read_volume(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 13], np.int64), np.uint8),
        (np.array([0, 13], np.float64), np.uint8),
        (np.array([0, 5.9998], np.float32), np.uint8),
        (np.array([0, 300], np.int32), np.uint16),
        (np.array([-1, 5], np.int32), np.int8),
        (np.array([-1, 200], np.float32), np.int16),
        (np.array([0, 70000], np.float32), np.uint32),
    ],
)
def test_labels_come_in_the_smallest_integer_type(
    tmp_path: Path, values: npt.NDArray[np.generic], expected: type
) -> None:
    labels = read_labels(nifti(tmp_path / "a.nii.gz", np.resize(values, (2, 2, 2)))).array
    assert labels.dtype == np.dtype(expected)
    assert np.unique(labels).tolist() == np.rint(values).tolist()


@pytest.mark.parametrize("value", [0.5, 2.01, np.nan, np.inf, 1e9])
def test_labels_that_are_no_integers_are_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = value
    path = nifti(tmp_path / "soft.nii.gz", array)
    with pytest.raises(ScanError, match=r"soft\.nii\.gz is given as labels but holds") as caught:
        read_labels(path)
    assert "label map" in caught.value.cure


@pytest.mark.parametrize("name", ["btcv_ct", "lits_ct", "chaos_mr_t2", "hippocampus_mr"])
def test_real_scans_agree_with_simpleitk(shared_data: Path, name: str) -> None:
    path = min((shared_data / name / "images").iterdir())
    volume = read_volume(path)
    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    assert np.allclose(SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0), volume.array, atol=1e-3)
    for index in ((0, 0, 0), (5, 7, 9), (30, 30, 20)):
        point = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        assert np.allclose(point, (volume.affine @ [*index, 1])[:3], atol=1e-3)
    labels = read_labels(shared_data / name / "labels" / path.name)
    assert volume.same_grid(labels)
    assert labels.array.dtype == np.uint8
