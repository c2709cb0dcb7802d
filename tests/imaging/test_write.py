from __future__ import annotations

import errno
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import DiskError, ScanError
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import Volume, canonical
from frugalseg.imaging.write import mask_path, write_mask
from tests.imaging.scans import affines, make_affine, numbered, write_series

FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")


@settings(max_examples=60, deadline=None)
@given(affine=affines(sheared=True), suffix=st.sampled_from(FORMATS))
def test_masks_come_back_on_their_grid(
    tmp_path_factory: pytest.TempPathFactory, affine: npt.NDArray[np.float64], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("w")
    mask = Volume(numbered(), affine)
    write_mask(mask, folder / f"m{suffix}")
    back = read_labels(folder / f"m{suffix}")
    assert np.allclose(back.affine, affine, rtol=1e-6, atol=1e-6 * np.abs(affine).max())
    assert back.same_grid(mask)
    assert np.array_equal(back.array, mask.array)
    assert [p.name for p in folder.iterdir()] == [f"m{suffix}"]


@pytest.mark.parametrize("orientation", range(48))
def test_from_canonical_back_to_the_scan_and_to_disk(tmp_path: Path, orientation: int) -> None:
    """A full round trip: a position in the patient keeps its label."""
    suffix = FORMATS[orientation % 4]
    scan = Volume(numbered(), make_affine(orientation, (1, 2, 3), (10, -20, 15), (-50, 60, 70)))
    upright, reorientation = canonical(scan)
    write_mask(scan.with_array(reorientation.undo(upright.array)), tmp_path / f"m{suffix}")
    back = read_labels(tmp_path / f"m{suffix}")
    for index in np.ndindex(upright.array.shape):
        place = upright.affine @ [*index, 1]
        x, y, z = np.rint(np.linalg.inv(back.affine) @ place)[:3].astype(int)
        assert back.array[x, y, z] == upright.array[index]


def test_qform_says_the_same_unless_the_grid_is_sheared(tmp_path: Path) -> None:
    straight, sheared = make_affine(7, (1, 2, 3), (10, 20, 30)), make_affine(7, (1, 2, 3), (10, 20, 30), shear=0.3)
    for affine in (straight, sheared):
        write_mask(Volume(numbered(), affine), tmp_path / "m.nii.gz")
        image = nib.load(tmp_path / "m.nii.gz")
        qform = image.get_qform()
        assert np.allclose(image.get_sform(), affine, atol=1e-5)
        assert np.allclose(qform[:3, :2], affine[:3, :2], atol=1e-5)
        assert np.allclose(qform, affine, atol=1e-5) == (affine is straight)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("value", "stored"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_the_type_is_as_small_as_it_may_be(tmp_path: Path, suffix: str, value: int, stored: type) -> None:
    array = np.zeros((3, 4, 5), np.int64)
    array[1, 2, 3] = value
    write_mask(Volume(array, np.eye(4)), tmp_path / f"m{suffix}")
    back = read_volume(tmp_path / f"m{suffix}").array
    assert back.dtype == np.dtype(stored)
    assert np.array_equal(back, array)


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_masks_are_compressed(tmp_path: Path, suffix: str) -> None:
    write_mask(Volume(np.zeros((50, 50, 50), bool), np.eye(4)), tmp_path / f"m{suffix}")
    assert (tmp_path / f"m{suffix}").stat().st_size < 5000


def test_values_that_no_mask_holds_are_refused(tmp_path: Path) -> None:
    for value in (-1, 65536):
        with pytest.raises(ScanError, match=r"m\.nii\.gz would hold"):
            write_mask(Volume(np.full((2, 2, 2), value), np.eye(4)), tmp_path / "m.nii.gz")
    with pytest.raises(TypeError, match="float64"):
        write_mask(Volume(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "m.nii.gz")
    for name in ("m.png", "m.mhd", "m"):
        with pytest.raises(ScanError, match="not a file type for masks"):
            write_mask(Volume(numbered(), np.eye(4)), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"m{suffix}"
    write_mask(Volume(numbered(), np.eye(4)), path)
    before = path.read_bytes()

    def nibabel_fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def itk_cuts_short(image: SimpleITK.Image, name: str, **_: object) -> None:
        Path(name).write_bytes(before[: len(before) // 2])

    monkeypatch.setattr(nib, "save", nibabel_fails)
    monkeypatch.setattr(SimpleITK, "WriteImage", itk_cuts_short)
    with pytest.raises(DiskError, match=f"m{suffix}"):
        write_mask(Volume(numbered() + np.uint8(1), np.eye(4)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_new_mask_takes_the_name_at_once(tmp_path: Path, suffix: str) -> None:
    """The old file is replaced, never written into: who has it open reads on undisturbed."""
    path, held = tmp_path / f"m{suffix}", tmp_path / "held"
    write_mask(Volume(numbered(), np.eye(4)), path)
    held.hardlink_to(path)
    before = held.read_bytes()
    write_mask(Volume(numbered()[::-1], np.eye(4)), path)
    assert held.read_bytes() == before
    assert np.array_equal(read_labels(path).array, numbered()[::-1])


def test_a_grid_that_was_not_kept_is_an_error_not_another_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SimpleITK.WriteImage

    def straightened(image: SimpleITK.Image, name: str, **options: object) -> None:
        image.SetDirection(np.eye(3).ravel().tolist())
        write(image, name, **options)

    monkeypatch.setattr(SimpleITK, "WriteImage", straightened)
    with pytest.raises(ScanError, match=r"m\.nrrd cannot hold this grid") as caught:
        write_mask(Volume(numbered(), make_affine(shear=0.3)), tmp_path / "m.nrrd")
    assert ".nii.gz" in caught.value.cure
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write_mask(Volume(numbered(), np.eye(4)), tmp_path / "new" / "m.nii.gz")
    assert (tmp_path / "new" / "m.nii.gz").is_file()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x.nii", "case.nii"),
        ("x.nii.gz", "case.nii.gz"),
        ("X.NII.GZ", "case.nii.gz"),
        ("x.nrrd", "case.nrrd"),
        ("x.nhdr", "case.nrrd"),
        ("x.mha", "case.mha"),
        ("x.mhd", "case.mha"),
        ("x.dcm", "case.nii.gz"),
        ("CT.1.2.3", "case.nii.gz"),
        ("folder", "case.nii.gz"),
    ],
)
def test_masks_have_the_file_type_of_their_scan(source: str, name: str) -> None:
    assert mask_path(Path("out"), "case", Path(source)) == Path("out") / name


def test_a_mask_of_a_tilted_series_lies_on_it(tmp_path: Path) -> None:
    write_series(tmp_path / "s", step=(0, 0.8, 2.5))
    with pytest.warns(ScanWarning, match="gantry tilt"):
        scan = read_volume(tmp_path / "s")
    path = mask_path(tmp_path, "s", tmp_path / "s")
    write_mask(scan.with_array((scan.array > 200).astype(np.uint8)), path)
    assert read_labels(path).same_grid(scan)


def test_masks_of_real_scans(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "chaos_mr_t2" / "labels" / "chaos_t2_01.nii.gz"
    labels = read_labels(source)
    write_mask(labels, mask_path(tmp_path, "m", source))
    back = read_labels(tmp_path / "m.nii.gz")
    assert np.array_equal(back.affine, labels.affine)
    assert np.array_equal(back.array, labels.array)
