"""Masks lie on their scan in every program: SimpleITK, which reads qform and units, decides."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import ScanError
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.nifti_placement import PLACEMENT_FIELDS
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import write_mask
from tests.imaging.scans import affines, make_affine, numbered, write_series

Affine = npt.NDArray[np.float64]
LPS = np.diag([-1, -1, 1])


def save(
    path: Path,
    sform: Affine,
    qform: Affine,
    codes: tuple[int, int] = (1, 1),
    unit: str = "mm",
    shape: tuple[int, int, int] = (3, 4, 5),
) -> Path:
    """A scan whose header says both; `codes` of sform and qform."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units(unit)
    header.set_sform(sform, codes[0])
    header.set_qform(qform, codes[1])
    nib.Nifti1Image(numbered(shape, np.int16), None, header).to_filename(path)
    return path


def seen_by_itk(path: Path) -> SimpleITK.Image | None:
    try:
        return SimpleITK.ReadImage(str(path))
    except RuntimeError:
        return None


def masked(path: Path) -> Path:
    """Where the mask of a scan was written."""
    out = path.with_name("mask.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        scan = read_volume(path)
    write_mask(scan.with_array((scan.array % 3).astype(np.uint8)), out)
    return out


CODES = st.tuples(st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=100, deadline=None)
@given(
    sform=affines(sheared=True),
    qform=affines(),
    alike=st.booleans(),
    codes=CODES,
    unit=st.sampled_from(["mm", "micron", "meter", "unknown"]),
)
def test_itk_sees_mask_and_scan_at_one_place(
    tmp_path_factory: pytest.TempPathFactory,
    sform: Affine,
    qform: Affine,
    alike: bool,
    codes: tuple[int, int],
    unit: str,
) -> None:
    path = save(tmp_path_factory.mktemp("f") / "a.nii.gz", sform, sform if alike else qform, codes, unit)
    mask = masked(path)
    before, after = seen_by_itk(path), seen_by_itk(mask)
    assert after is not None
    if before is not None:
        here, there = nib.load(path).header, nib.load(mask).header
        assert after.GetOrigin() == before.GetOrigin()
        # A shear at the edge of what ITK bears gets a qform too: its directions differ by no more than that.
        added = int(here["qform_code"]) != int(there["qform_code"])
        assert np.allclose(after.GetDirection(), before.GetDirection(), rtol=0, atol=3e-4 if added else 0)
        assert added or after.GetSpacing() == before.GetSpacing()
        assert added or all(np.array_equal(here[name], there[name]) for name in PLACEMENT_FIELDS)
        assert not added or codes[1] == 0 < codes[0]
    else:
        with pytest.warns(ScanWarning, match="cannot open it"):
            read_volume(path)
    assert np.array_equal(read_labels(mask).affine, read_labels(path).affine)


def test_a_mask_with_a_header_of_its_own_is_written_with_that_of_its_scan(tmp_path: Path) -> None:
    moved = make_affine(7, (1, 2, 3), (5, 6, 7), (10, -5, 3))
    path = save(tmp_path / "scan.nii.gz", make_affine(7, (1, 2, 3), (5, 6, 7)), moved, (2, 1))
    with pytest.warns(ScanWarning, match="a qform and an sform"):
        scan = read_volume(path)
    other = nib.Nifti1Image(numbered(), scan.affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]], float))
    other.to_filename(tmp_path / "labels.nii.gz")
    write_mask(onto_grid(read_labels(tmp_path / "labels.nii.gz"), scan, "a"), tmp_path / "mask.nii.gz")
    here, there = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert there.GetOrigin() == here.GetOrigin()
    assert there.GetDirection() == here.GetDirection()
    assert np.array_equal(SimpleITK.GetArrayFromImage(there), SimpleITK.GetArrayFromImage(here))


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 2), (0, 3), (4, 0), (0, 0)])
def test_codes_and_both_forms_of_the_scan_are_kept(tmp_path: Path, codes: tuple[int, int]) -> None:
    sform, qform = make_affine(7, (1, 2, 3), (5, 6, 7)), make_affine(7, (1, 2, 3), (5, 6, 7), (10, -5, 3))
    path = save(tmp_path / "a.nii", sform, qform, codes)
    here, there = nib.load(path).header, nib.load(masked(path)).header
    for name in PLACEMENT_FIELDS:
        assert np.array_equal(here[name], there[name]), name


def test_a_scan_of_the_other_byte_order_and_of_nifti_2(tmp_path: Path) -> None:
    affine = make_affine(7, (1, 2, 3), (5, 6, 7), (10, -5, 3))
    for kind, header in ((nib.Nifti1Image, nib.Nifti1Header(endianness=">")), (nib.Nifti2Image, nib.Nifti2Header())):
        image = kind(numbered(dtype=np.int16), affine, header)
        image.set_sform(affine, 3)
        image.set_qform(affine, 2)
        image.to_filename(tmp_path / "a.nii.gz")
        mask = nib.load(masked(tmp_path / "a.nii.gz"))
        assert np.allclose(mask.get_qform(), affine, atol=1e-5)
        assert np.allclose(mask.affine, affine, atol=1e-5)
        assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (3, 2)


def test_forms_that_disagree_are_said_once(tmp_path: Path) -> None:
    moved = make_affine(origin=(10, -5, 3))
    path = save(tmp_path / "a.nii.gz", np.eye(4), moved, (2, 1))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        read_volume(path)
        read_volume(path)
        read_labels(path)  # a mask goes by its scan
    assert len(said) == 1
    assert "a.nii.gz has a qform and an sform that differ by up to 11.6 mm" in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_volume(save(tmp_path / "b.nii.gz", np.eye(4), make_affine(origin=(0.01, 0, 0))))


def test_a_damaged_qform_beside_a_sound_sform_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.eye(4), np.eye(4))
    image = nib.load(path)
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]))
    header["quatern_b"], header["quatern_c"] = 3, 4
    raw[:348] = header.binaryblock
    path.write_bytes(bytes(raw))
    with pytest.warns(ScanWarning, match="damaged qform"):
        assert np.array_equal(read_volume(path).affine, np.eye(4))


@pytest.mark.parametrize("shear", [1e-4, 1e-3, 0.02, 0.3])
def test_a_small_shear_of_a_large_scan_leaves_the_qform(tmp_path: Path, shear: float) -> None:
    straight = make_affine(spacing=(0.7, 0.7, 1))
    path = save(tmp_path / "a.nii.gz", make_affine(spacing=(0.7, 0.7, 1), shear=shear), straight, shape=(4, 4, 512))
    before, after = seen_by_itk(path), seen_by_itk(masked(path))
    assert before is not None
    assert after is not None
    assert after.GetDirection() == before.GetDirection()
    assert int(nib.load(tmp_path / "mask.nii.gz").header["qform_code"]) == 1


def test_a_sheared_grid_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", make_affine(shear=0.3), np.eye(4), (1, 0))
    with pytest.warns(ScanWarning, match=r"no qform; ITK.*cannot open it.*not at right angles.*by 1.21 mm"):
        read_volume(path)


@pytest.mark.parametrize("step", [(0, 0, 2.5), (0, 0.8, 2.5), (0.2, -0.6, 2.5)])
def test_itk_sees_the_mask_of_a_dicom_series_where_it_sees_the_series(
    tmp_path: Path, step: tuple[float, float, float]
) -> None:
    """With a tilted gantry too. Our rows run from the bottom up, those of ITK from the top down."""
    write_series(tmp_path / "s", step=step)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    series = reader.Execute()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        scan = read_volume(tmp_path / "s")
    assert bool(said) == bool(step[0] or step[1])
    if said:
        assert "not at right angles (gantry tilt?)" in str(said[0].message)
    write_mask(scan.with_array((scan.array % 7).astype(np.uint8)), tmp_path / "m.nii.gz")
    mask = SimpleITK.ReadImage(str(tmp_path / "m.nii.gz"))
    assert mask.GetSize() == series.GetSize()
    rows = mask.GetSize()[1]
    for x, y, z in np.ndindex(mask.GetSize()):
        here, there = (x, y, z), (x, rows - 1 - y, z)
        assert mask[here] == series[there] % 7
        points = mask.TransformIndexToPhysicalPoint(here), series.TransformIndexToPhysicalPoint(there)
        assert np.allclose(*points, atol=1e-4)


@pytest.mark.parametrize(("unit", "mm"), [("micron", 0.001), ("meter", 1000)])
def test_other_units_are_turned_into_mm_and_back(tmp_path: Path, unit: str, mm: float) -> None:
    affine = make_affine(7, (1.5 / mm, 2 / mm, 3 / mm), (0, 10, 20), (5, 6, 7))
    path = save(tmp_path / "a.nii.gz", affine, affine, unit=unit)
    with pytest.warns(ScanWarning, match=f"units of {mm:g} mm .* voxels of 1.5×2×3 mm"):
        scan = read_volume(path)
    assert np.allclose(scan.spacing, (1.5, 2, 3))
    assert np.allclose(scan.affine[:3, 3], np.array([5, 6, 7]) * mm)
    mask = read_labels(masked(path))
    assert mask.same_grid(scan)
    assert nib.load(tmp_path / "mask.nii.gz").header.get_xyzt_units()[0] == unit
    volume = read_volume(save(tmp_path / "mm.nii.gz", make_affine(), make_affine()))
    assert volume.spacing == (1, 1, 1)


def test_a_sheared_scan_in_micrometres_without_qform(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", make_affine(spacing=(900, 900, 900), shear=0.1), np.eye(4), (2, 0), "micron")
    after = seen_by_itk(masked(path))
    assert after is not None
    assert np.allclose(after.GetSpacing(), (0.9, 0.9, 0.9 * np.hypot(1, 0.1)), atol=1e-5)
    assert int(nib.load(tmp_path / "mask.nii.gz").header["qform_code"]) == 2


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.eye(4), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[123] = 5
    path.write_bytes(bytes(raw))
    with pytest.raises(ScanError, match="unknown unit of length"):
        read_volume(path)


def test_very_small_voxels_are_a_volume() -> None:
    assert Volume(numbered(), np.diag([0.0005, 0.0005, 0.0005, 1])).spacing == (0.0005, 0.0005, 0.0005)
    nearly_flat = np.eye(4)
    nearly_flat[:3, 2] = (1, 0, 1e-4)
    with pytest.raises(ScanError, match="parallel"):
        Volume(numbered(), nearly_flat)
