"""A mapped scan has the values and the grid of the same scan read whole."""

from __future__ import annotations

import gzip
import warnings

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from frugalseg.errors import ScanError, StoreError
from frugalseg.imaging import mapped
from frugalseg.imaging.mapped import cached_files, map_volume, sample_planes
from frugalseg.imaging.read import ScanWarning, read_volume

pytestmark = pytest.mark.filterwarnings("ignore::frugalseg.imaging.read.ScanWarning")

AFFINE = np.array([[-2.0, 0.3, 0, 60], [0.2, 1.9, 0.1, -70], [0, 0, 3.0, -40], [0, 0, 0, 1]])


def voxels(dtype):
    values = np.random.default_rng(0).integers(-900, 900, (7, 6, 21))
    return values.astype(dtype) if np.dtype(dtype).kind != "u" else (values + 900).astype(dtype)


def write_nifti(path, dtype, slope=None, code=None):
    image = nib.Nifti1Image(voxels(dtype), AFFINE)
    image.header.set_data_dtype(code or dtype)
    if slope:
        image.header.set_slope_inter(slope, -3)
        image = nib.Nifti1Image(image.dataobj, AFFINE, image.header)
    nib.save(image, path)


CASES = {
    "int16.nii": lambda p: write_nifti(p, np.int16),
    "int16.nii.gz": lambda p: write_nifti(p, np.int16),
    "uint8.nii.gz": lambda p: write_nifti(p, np.uint16),
    "big.nii": lambda p: write_nifti(p, np.int16, code=">i2"),
    "float.nii": lambda p: write_nifti(p, np.float64),
    "float.nii.gz": lambda p: write_nifti(p, np.float32),
    "scaled.nii": lambda p: write_nifti(p, np.int16, slope=0.5),
    "scaled.nii.gz": lambda p: write_nifti(p, np.int16, slope=2.0),
    "itk.nrrd": lambda p: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels(np.int16)), str(p)),
    "itk.mha": lambda p: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels(np.float32)), str(p)),
    "free.mgz": lambda p: nib.save(nib.MGHImage(voxels(np.float32), AFFINE), p),
}


@pytest.mark.parametrize("name", CASES)
def test_mapped_is_read(tmp_path, name):
    CASES[name](tmp_path / name)
    whole = read_volume(tmp_path / name)
    for _ in range(2):  # made, then found
        mapped = map_volume(tmp_path / name, tmp_path / "cache" / "one")
        assert mapped.array.dtype == whole.array.dtype
        np.testing.assert_array_equal(mapped.array, whole.array)
        np.testing.assert_array_equal(mapped.affine, whole.affine)
        assert mapped.padding == whole.padding
        assert mapped.placement.doubts == whole.placement.doubts
        assert mapped.placement.fields.keys() == whole.placement.fields.keys()
        for field, value in whole.placement.fields.items():
            np.testing.assert_array_equal(mapped.placement.fields[field], value)
        assert isinstance(mapped.array, np.memmap)


def test_nonfinite_voxels_are_replaced_as_by_reading(tmp_path):
    values = voxels(np.float32)
    values[2, 3, 4], values[0, 0, 20] = np.nan, -np.inf
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "a.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        whole = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(map_volume(tmp_path / "a.nii.gz", tmp_path / "cache").array, whole.array)


def test_an_uncompressed_scan_is_not_copied(tmp_path):
    write_nifti(tmp_path / "a.nii", np.int16)
    map_volume(tmp_path / "a.nii", tmp_path / "cache")
    assert not any(path.exists() for path in cached_files(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_scan_is_an_error_and_leaves_nothing(tmp_path, name):
    write_nifti(tmp_path / "whole.nii", np.int16)
    cut = (tmp_path / "whole.nii").read_bytes()[:-100]
    (tmp_path / name).write_bytes(gzip.compress(cut) if name.endswith(".gz") else cut)
    with pytest.raises(ScanError, match="truncated"):
        map_volume(tmp_path / name, tmp_path / "cache" / "one")
    assert list((tmp_path / "cache").rglob("*")) == []


def test_a_flipped_bit_is_found(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.int16)
    stored = bytearray((tmp_path / "a.nii.gz").read_bytes())
    stored[-6] ^= 1  # of the checksum
    (tmp_path / "a.nii.gz").write_bytes(stored)
    with pytest.raises(ScanError, match="damaged"):
        map_volume(tmp_path / "a.nii.gz", tmp_path / "cache")


def test_unpacked_voxels_that_are_deleted_meanwhile_are_told(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii.gz", np.int16)

    def write_and_lose(cache, *rest, **more):
        write(cache, *rest, **more)
        cached_files(cache)[0].unlink()

    write = mapped._write_cached
    monkeypatch.setattr(mapped, "_write_cached", write_and_lose)
    with pytest.raises(StoreError, match="was deleted while the scan was opened"):
        map_volume(tmp_path / "a.nii.gz", tmp_path / "kept")


def test_sampled_planes_are_spread_over_the_scan(tmp_path):
    write_nifti(tmp_path / "a.nii", np.int16)
    volume = read_volume(tmp_path / "a.nii")
    sample = sample_planes(volume, 3)
    np.testing.assert_array_equal(sample.array, volume.array[:, :, [0, 10, 20]])
