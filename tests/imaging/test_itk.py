from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import ScanError
from frugalseg.imaging.itk import load_itk
from frugalseg.imaging.nifti import load_nifti
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import write_mask
from tests.imaging.scans import affines, numbered

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")


def save(path: Path, array: npt.NDArray[np.generic]) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path), useCompression=True)
    return path


def points_agree(image: SimpleITK.Image, volume: Volume) -> bool:
    """SimpleITK's physical point of every voxel, turned from LPS to RAS, is ours; and so is its value."""
    return all(
        np.allclose(
            np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1],
            (volume.affine @ [*index, 1])[:3],
            atol=2e-4,
        )
        and image[index] == volume.array[index]
        for index in np.ndindex(volume.array.shape)
    )


@settings(max_examples=20, deadline=None)
@given(affine=affines(), suffix=st.sampled_from(SUFFIXES))
def test_places_are_those_of_simpleitk(
    tmp_path_factory: pytest.TempPathFactory, affine: npt.NDArray[np.float64], suffix: str
) -> None:
    image = SimpleITK.GetImageFromArray(numbered().transpose(2, 1, 0).copy())
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    path = tmp_path_factory.mktemp("i") / f"a{suffix}"
    SimpleITK.WriteImage(image, str(path))
    volume = load_itk(path)
    assert np.allclose(volume.affine, affine, rtol=1e-9, atol=1e-9)
    assert np.array_equal(volume.array, numbered())
    assert points_agree(image, volume)


@settings(max_examples=15, deadline=None)
@given(affine=affines())
def test_nifti_lies_where_simpleitk_sees_it(
    tmp_path_factory: pytest.TempPathFactory, affine: npt.NDArray[np.float64]
) -> None:
    path = tmp_path_factory.mktemp("n") / "a.nii.gz"
    write_mask(Volume(numbered(), affine), path)
    assert points_agree(SimpleITK.ReadImage(str(path)), load_nifti(path))


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_stored_types_are_kept(tmp_path: Path, stored: type) -> None:
    array = load_itk(save(tmp_path / "a.nrrd", numbered(dtype=stored))).array
    assert array.dtype == np.dtype(stored)
    assert np.array_equal(array, numbered().transpose(2, 1, 0))


def test_float64_becomes_float32(tmp_path: Path) -> None:
    assert load_itk(save(tmp_path / "a.mha", numbered(dtype=np.float64))).array.dtype == np.float32


def test_other_nrrd_spaces_and_layouts(tmp_path: Path) -> None:
    header = (
        "NRRD0004\ntype: double\nendian: big\ndimension: 4\nspace: right-anterior-superior\nsizes: 2 2 2 1\n"
        "space directions: (0,0,2) (1,0,0) (0,3,0) none\nkinds: domain domain domain list\nencoding: raw\n"
        "space origin: (7,8,9)\n\n"
    )
    voxels = np.arange(8, dtype=">f8")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + voxels.tobytes())
    volume = load_itk(tmp_path / "a.nrrd")
    assert np.allclose(volume.affine, [[0, 1, 0, 7], [0, 0, 3, 8], [2, 0, 0, 9], [0, 0, 0, 1]])
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array.ravel(order="F"), np.arange(8))


def test_a_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(numbered())])
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    assert image.GetDimension() == 4
    assert np.array_equal(load_itk(tmp_path / "a.mha").array, numbered().transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", SUFFIXES[::2])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_files_cut_short_are_refused(tmp_path: Path, suffix: str, packed: bool, keep: float) -> None:
    array = np.random.default_rng(0).integers(0, 9999, (9, 9, 9)).astype(np.int16)
    path = tmp_path / f"cut{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path), packed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ScanError, match=r"truncated|empty") as caught:
        load_itk(path)
    assert caught.value.problem.startswith(str(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_another_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("no scan\n" * 50)
    with pytest.raises(ScanError, match=f"text{suffix} cannot be read.*not an? (NRRD|MetaImage) file"):
        load_itk(path)
    with pytest.raises(ScanError, match="does not exist"):
        load_itk(tmp_path / f"gone{suffix}")


def test_a_header_whose_voxels_are_gone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mhd", numbered())
    next(p for p in tmp_path.iterdir() if p != path).unlink()
    with pytest.raises(ScanError, match=r"a\.mhd"):
        load_itk(path)


@pytest.mark.parametrize(
    ("array", "vector", "words"),
    [
        (np.zeros((4, 5), np.uint8), False, "2 dimensions"),
        (np.zeros((2, 4, 5, 6), np.uint8), False, "4 dimensions"),
        (np.zeros((4, 5, 6, 3), np.uint8), True, "3 values per voxel"),
        (np.zeros((4, 5, 6), np.complex64), False, "2 values per voxel|complex"),
    ],
)
def test_what_is_no_grey_value_volume_is_refused(
    tmp_path: Path, array: npt.NDArray[np.generic], vector: bool, words: str
) -> None:
    path = tmp_path / "a.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=vector), str(path))
    with pytest.raises(ScanError, match=words) as caught:
        load_itk(path)
    assert str(path) in caught.value.problem


@pytest.mark.parametrize("directions", ["(1,0,0) (0,0,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)"])
def test_degenerate_axes_are_refused(tmp_path: Path, directions: str) -> None:
    path = tmp_path / "flat.nrrd"
    path.write_bytes(
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        f"space directions: {directions}\nencoding: raw\nspace origin: (0,0,0)\n\n".encode()
        + bytes(8)
    )
    with pytest.raises(ScanError, match=r"flat\.nrrd (has zero spacing|cannot be read)"):
        load_itk(path)


NRRD = (
    "NRRD0004\ntype: uchar\ndimension: 3\n{space}\nsizes: 3 4 5\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n"
    "{more}encoding: raw\nspace origin: (0,0,0)\n\n"
)
LPS = "space: left-posterior-superior"


@pytest.mark.parametrize(
    ("unit", "name"),
    [('"um" "um" "um"', "um"), ('"mm" "mm" "micro meter"', "micro meter"), ("cm cm cm", "cm")],
)
def test_a_nrrd_in_other_units_is_refused_by_their_name(tmp_path: Path, unit: str, name: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(space=LPS, more=f"space units: {unit}\n").encode() + bytes(60))
    with pytest.raises(ScanError, match=rf"a\.nrrd is measured in '{name}' \(space units\)"):
        load_itk(path)


@pytest.mark.parametrize("more", ['space units: "mm" "mm" "mm"\n', "space units:=cm\n", "# units: cm\n", ""])
def test_a_nrrd_in_mm_is_read(tmp_path: Path, more: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(space=LPS, more=more).encode() + bytes(60))
    assert load_itk(path).spacing == (1, 1, 2)
    assert not load_itk(path).placement.doubts


def test_units_of_axes_and_of_metaimage_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(
        b'NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 4 5\nspacings: 1 1 2\nunits: "cm" "cm" "cm"\nencoding: raw\n\n'
        + bytes(60)
    )
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(numbered()), str(tmp_path / "a.mha"))
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(content.replace(b"DimSize", b"DistanceUnits = um\nDimSize"))
    for name, unit in (("a.nrrd", "cm"), ("a.mha", "um")):
        with pytest.raises(ScanError, match=f"{name} is measured in '{unit}'"):
            load_itk(tmp_path / name)


@pytest.mark.parametrize("space", ["space dimension: 3", "space: scanner-xyz", "# no space"])
def test_a_nrrd_without_space_is_said(tmp_path: Path, space: str) -> None:
    path = tmp_path / "a.nrrd"
    header = NRRD.format(space=space, more="")
    if space.startswith("#"):
        header = header.replace("space directions: (1,0,0) (0,1,0) (0,0,2)\n", "").replace(
            "space origin: (0,0,0)\n", ""
        )
    path.write_bytes(header.encode() + bytes(60))
    with pytest.warns(ScanWarning, match=r"a\.nrrd does not state its orientation.*no anatomical space.*LPS"):
        read_volume(path)
