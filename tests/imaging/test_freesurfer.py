"""FreeSurfer's files, and NIfTI under bzip2, as nibabel reads them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from frugalseg.errors import ScanError
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.write import mask_path, write_mask
from tests.imaging.scans import make_affine, numbered

AFFINE = make_affine(11, (0.8, 1.1, 2.5), (10, 5, -7), (4, 5, -60))


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_files(tmp_path: Path, suffix: str, kind: type) -> None:
    path = tmp_path / f"a{suffix}"
    nib.save(nib.MGHImage(numbered(dtype=kind), AFFINE), path)
    volume = read_volume(path)
    assert np.array_equal(volume.array, numbered())
    assert volume.array.dtype == kind
    assert volume.array.dtype.isnative
    assert np.allclose(volume.affine, AFFINE, atol=1e-4)
    assert read_labels(path).array.dtype == np.uint8


def test_bzip2(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.bz2"
    nib.save(nib.Nifti1Image(numbered(), AFFINE), path)
    volume = read_volume(path)
    assert np.array_equal(volume.array, numbered())
    assert np.allclose(volume.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh", ".nii.bz2"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    array = np.random.default_rng(0).integers(0, 200, (9, 10, 11), dtype=np.uint8)
    nib.save((nib.MGHImage if "mg" in suffix else nib.Nifti1Image)(array, AFFINE), path)
    whole = path.read_bytes()
    for damaged in (whole[: int(share * len(whole))], b"x" * 400):
        path.write_bytes(damaged)
        with pytest.raises(ScanError, match=r"a\.") as caught:
            read_volume(path)
        assert caught.value.cure


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(np.zeros((3, 4, 5, 2), np.uint8), AFFINE), path)
    with pytest.raises(ScanError, match="4 dimensions"):
        read_volume(path)


def test_a_freesurfer_file_without_a_place_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mgh"
    image = nib.MGHImage(numbered(), AFFINE)
    nib.save(image, path)
    data = bytearray(path.read_bytes())
    assert data[28:30] == b"\x00\x01"
    data[28:30] = b"\x00\x00"
    path.write_bytes(data)
    with pytest.warns(ScanWarning, match="the RAS flag is unset"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".mgz", ".nii.bz2"])
def test_masks_of_such_scans_are_nifti_on_their_grid(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    nib.save((nib.MGHImage if "mg" in suffix else nib.Nifti1Image)(numbered(), AFFINE), path)
    scan = read_volume(path)
    mask = mask_path(tmp_path / "masks", "a", path)
    assert mask.name == "a.nii.gz"
    write_mask(scan.with_array((scan.array > 9).astype(np.uint8)), mask)
    assert read_labels(mask).same_grid(scan)
    assert SimpleITK.ReadImage(str(mask)).GetSize() == scan.array.shape


@pytest.mark.parametrize("value", [0, -1000])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
def test_a_constant_scan_is_said(tmp_path: Path, value: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    kind = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
    nib.save(kind(np.full((3, 4, 5), value, np.int16), AFFINE), path)
    with pytest.warns(ScanWarning, match=f"all voxels are {value}; the scan has no content"):
        read_volume(path)


def test_padding_that_became_a_value_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    array = np.random.default_rng(0).integers(5, 457, (8, 9, 10)).astype(np.int16)
    array[:3] = -32768
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    with pytest.warns(ScanWarning, match=r"38% of its voxels are -32768, the others 5…456"):
        read_volume(path)
