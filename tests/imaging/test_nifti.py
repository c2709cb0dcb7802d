from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import ScanError
from frugalseg.imaging.nifti import load_nifti
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.validation import ScanWarning
from tests.imaging.scans import affines, make_affine, numbered


def save(
    path: Path,
    array: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64] | None = None,
    change: Callable[[nib.Nifti1Header], None] = lambda _: None,
) -> Path:
    """Write a NIfTI-1 file whose header `change` may corrupt in ways nibabel would not write."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]))
    change(header)
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


@settings(max_examples=15, deadline=None)
@given(affine=affines(sheared=True), suffix=st.sampled_from([".nii", ".nii.gz"]))
def test_voxels_and_affine_are_the_stored_ones(
    tmp_path_factory: pytest.TempPathFactory, affine: npt.NDArray[np.float64], suffix: str
) -> None:
    path = save(tmp_path_factory.mktemp("n") / f"a{suffix}", numbered(dtype=np.int16), affine)
    volume = load_nifti(path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, numbered())
    assert np.array_equal(volume.affine, affine.astype(np.float32))
    assert volume.source == path


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_integers_keep_their_type_in_native_byte_order(tmp_path: Path, stored: type, order: str) -> None:
    image = nib.Nifti1Image(numbered(dtype=stored), np.eye(4), nib.Nifti1Header(endianness=order), dtype=stored)
    image.to_filename(tmp_path / "a.nii")
    array = load_nifti(tmp_path / "a.nii").array
    assert array.dtype == np.dtype(stored)
    assert array.dtype.isnative
    assert np.array_equal(array, numbered())


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_floats_become_float32(tmp_path: Path, stored: type) -> None:
    array = load_nifti(save(tmp_path / "a.nii.gz", numbered(dtype=stored) / stored(4))).array
    assert array.dtype == np.float32
    assert np.array_equal(array, numbered() / np.float32(4))


def test_scaling_is_applied_in_float32(tmp_path: Path) -> None:
    def scaled(header: nib.Nifti1Header) -> None:
        header["scl_slope"], header["scl_inter"] = 2.5, -1024

    for name in ("a.nii", "a.nii.gz"):
        array = load_nifti(save(tmp_path / name, numbered(), change=scaled)).array
        assert array.dtype == np.float32
        assert np.array_equal(array, numbered().astype(float) * 2.5 - 1024)


def test_nifti2_is_read(tmp_path: Path) -> None:
    nib.Nifti2Image(numbered(), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    assert np.array_equal(load_nifti(tmp_path / "a.nii.gz").array, numbered())


def test_axes_of_length_one_after_the_third_are_dropped(tmp_path: Path) -> None:
    for shape in ((3, 4, 5, 1), (3, 4, 5, 1, 1)):
        array = load_nifti(save(tmp_path / "a.nii.gz", numbered().reshape(shape))).array
        assert np.array_equal(array, numbered())
    assert load_nifti(save(tmp_path / "a.nii", numbered((3, 4, 1)))).array.shape == (3, 4, 1)


def test_qform_alone_places_the_scan(tmp_path: Path) -> None:
    affine = make_affine(5, (1, 2, 3), (10, 20, 30), (4, 5, 6))

    def only_qform(header: nib.Nifti1Header) -> None:
        header.set_qform(affine, 1)
        header.set_sform(None, 0)

    volume = load_nifti(save(tmp_path / "a.nii", numbered(), change=only_qform))
    assert np.allclose(volume.affine, affine, atol=1e-5)


def test_a_scan_without_a_place_is_said(tmp_path: Path) -> None:
    def nowhere(header: nib.Nifti1Header) -> None:
        header["sform_code"] = header["qform_code"] = 0

    path = save(tmp_path / "a.nii", numbered(), change=nowhere)
    with pytest.warns(ScanWarning, match=r"a\.nii does not state its orientation.*LAS"):
        read_volume(path)


def _qform_without_spacing(header: nib.Nifti1Header) -> None:
    header.set_qform(np.eye(4), 1)
    header.set_sform(None, 0)
    header["pixdim"][2] = 0


def _sform_without_spacing(header: nib.Nifti1Header) -> None:
    header["srow_y"] = 0


def _nan_sform(header: nib.Nifti1Header) -> None:
    header["srow_y"] = np.nan


def _too_many_voxels(header: nib.Nifti1Header) -> None:
    header["dim"][1:4] = 32767


def _negative_dimension(header: nib.Nifti1Header) -> None:
    header["dim"][1] = -3


def _one_bit(header: nib.Nifti1Header) -> None:
    header["datatype"] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_qform_without_spacing, "zero spacing"),
        (_sform_without_spacing, "zero spacing"),
        (_nan_sform, "not a finite"),
        (_too_many_voxels, "more voxels than memory holds|truncated"),
        (_negative_dimension, "damaged NIfTI header"),
        (_one_bit, "damaged NIfTI header"),
    ],
)
def test_corrupted_headers_are_refused(tmp_path: Path, change: Callable[[nib.Nifti1Header], None], words: str) -> None:
    for name in ("bad.nii", "bad.nii.gz"):
        path = save(tmp_path / name, numbered((9, 9, 9)), change=change)
        with pytest.raises(ScanError, match=words) as caught:
            load_nifti(path)
        assert str(path) in caught.value.problem
        assert caught.value.cure


def damaged_files() -> dict[str, bytes]:
    raw = nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (20, 20, 20)).astype(np.int16), np.eye(4)).to_bytes()
    packed = gzip.compress(raw)
    flipped = bytearray(gzip.compress(raw, 0))
    flipped[5000] ^= 1
    return {
        "half.nii.gz": packed[: len(packed) // 2],
        "without_checksum.nii.gz": packed[:-5],
        "flipped_bit.nii.gz": bytes(flipped),
        "header_only.nii.gz": packed[:60],
        "empty.nii.gz": b"",
        "text.nii.gz": b"no scan" * 200,
        "packed_text.nii.gz": gzip.compress(b"no scan" * 200),
        "not_packed.nii.gz": raw,
        "half.nii": raw[:-100],
        "half_header.nii": raw[:100],
        "empty.nii": b"",
        "text.nii": b"no scan" * 200,
        "packed.nii": packed,
    }


@pytest.mark.parametrize("name", damaged_files())
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(damaged_files()[name])
    with pytest.raises(ScanError, match=r"truncated|damaged|no NIfTI file|empty|compressed") as caught:
        load_nifti(path)
    assert caught.value.problem.startswith(str(path))
    assert caught.value.cure


@pytest.mark.parametrize(
    ("name", "times", "words", "cure"),
    [
        ("a.nii.gz", 0, "not compressed, though its name ends in .gz", "rename it to a.nii "),
        ("a.nii", 1, "compressed, though its name does not end in .gz", "rename it to a.nii.gz"),
        ("a.nii.gz", 2, "compressed twice", "gunzip"),
    ],
)
def test_a_name_that_does_not_fit_the_packing_is_told(
    tmp_path: Path, name: str, times: int, words: str, cure: str
) -> None:
    content = nib.Nifti1Image(numbered(), np.eye(4)).to_bytes()
    for _ in range(times):
        content = gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError, match=words) as caught:
        load_nifti(tmp_path / name)
    assert cure in caught.value.cure


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"gone\.nii does not exist"):
        load_nifti(tmp_path / "gone.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(ScanError, match=r"folder\.nii is a folder"):
        load_nifti(tmp_path / "folder.nii")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5), np.uint8), "2 dimensions"),
        (np.zeros((4, 5, 6, 2), np.uint8), "4 dimensions"),
        (np.zeros((4, 5, 1, 2), np.uint8), "4 dimensions"),
        (np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), "colours"),
        (np.zeros((4, 5, 6), np.complex64), "complex"),
    ],
)
def test_what_is_no_grey_value_volume_is_refused(tmp_path: Path, array: npt.NDArray[np.generic], words: str) -> None:
    path = save(tmp_path / "a.nii.gz", array)
    with pytest.raises(ScanError, match=words) as caught:
        load_nifti(path)
    assert str(path) in caught.value.problem
