"""A mark drawn in the page lies on the same voxel in the file, as SimpleITK sees both, on every grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from frugalseg.annotation.display import Display, PictureScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import write_mask
from tests.imaging.scans import write_series

pytestmark = pytest.mark.filterwarnings("ignore::frugalseg.imaging.read.ScanWarning")

SHAPE = (5, 6, 7)


@st.composite
def affines(draw):
    """Any order and direction of axes, turned by up to 40°, with any spacing."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    angles = draw(st.tuples(*[st.floats(-40, 40)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.5, 5)] * 3))
    affine = np.eye(4)
    axes = np.eye(3)[:, order] * signs
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


def write_scan(path, affine):
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return values


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affines(), st.data())
def test_a_mark_lies_on_the_voxel_that_was_clicked(tmp_path, affine, data):
    write_scan(tmp_path / "scan.nii", affine)
    display = Display.of(read_volume(tmp_path / "scan.nii"), tmp_path / "scan.nii")
    columns, rows, depth = display.shape
    z, row, column = (data.draw(st.integers(0, n - 1)) for n in (depth, rows, columns))
    mask = np.zeros((rows, columns), np.uint8)
    mask[row, column] = 3
    write_mask(display.mask_volume([(z, mask)]), tmp_path / "mask.nii")

    # What was under the mouse, by the picture that the page showed: every voxel of the scan has its own value.
    shown = int(display.picture(z)[row, column])
    scan, drawn = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("scan.nii", "mask.nii"))
    assert np.allclose(scan.GetOrigin(), drawn.GetOrigin())
    assert np.allclose(scan.GetDirection(), drawn.GetDirection())
    assert scan.GetSpacing() == pytest.approx(drawn.GetSpacing())
    marked = SimpleITK.GetArrayFromImage(drawn)
    assert np.count_nonzero(marked) == 1
    assert SimpleITK.GetArrayFromImage(scan)[marked == 3].tolist() == [shown]


@settings(max_examples=25, deadline=None)
@given(affines())
def test_pictures_are_in_radiological_view(affine):
    """Columns run towards the patient's left, rows towards the back, slices towards the head, as nearly as can be."""
    display = Display.of(Volume(np.zeros(SHAPE, np.int16), affine), Path("scan.nii"))
    towards = display.upright.affine[:3, :3] / display.upright.spacing
    assert (np.diag(towards) * (-1, -1, 1) > 0).all()


@settings(max_examples=25, deadline=None)
@given(affines())
def test_masks_go_to_the_file_and_back_unchanged(affine):
    display = Display.of(Volume(np.zeros(SHAPE, np.int16), affine), Path("scan.nii"))
    columns, rows, depth = display.shape
    masks = np.random.default_rng(0).integers(0, 5, (depth, rows, columns)).astype(np.uint8)
    there = display.mask_volume(enumerate(masks))
    assert there.array.shape == SHAPE
    np.testing.assert_array_equal(there.affine, display.volume.affine)
    np.testing.assert_array_equal(display.mask_slices(there), masks)


def test_the_streamed_volume_lies_where_the_scan_lies(tmp_path):
    affine = np.array([[0, 0, 2.5, 10], [-0.8, 0.1, 0, 5], [0.1, 0.8, 0, -3], [0, 0, 0, 1]])
    write_scan(tmp_path / "scan.nii", affine)
    display = Display.of(read_volume(tmp_path / "scan.nii"), tmp_path / "scan.nii")
    planes = [display.picture(z) for z in range(display.shape[2])]
    (tmp_path / "volume.nii").write_bytes(b"".join(display.stream_nifti(planes, "<i2", scaled=True)))
    scan, shown = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("scan.nii", "volume.nii"))
    for index in ((0, 0, 0), (4, 5, 6), (2, 3, 1)):
        there = shown.TransformPhysicalPointToIndex(scan.TransformIndexToPhysicalPoint(index))
        assert shown.GetPixel(*there) == scan.GetPixel(*index)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_a_mark_on_a_dicom_series_lies_where_itk_sees_the_pixel(tmp_path, orientation):
    """Axial, sagittal and oblique slices; the mask is NIfTI, the scan DICOM."""
    normal = np.cross(orientation[:3], orientation[3:])
    write_series(tmp_path / "series", step=2.5 * normal, orientation=orientation)
    display = Display.of(read_volume(tmp_path / "series"), tmp_path / "series")
    mask = np.zeros(display.pixels, np.uint8)
    mask[1, 2] = 1
    write_mask(display.mask_volume([(1, mask)]), tmp_path / "mask.nii.gz")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    scan, drawn = reader.Execute(), SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    (index,) = np.argwhere(SimpleITK.GetArrayFromImage(drawn))[:, ::-1].tolist()
    there = scan.TransformPhysicalPointToIndex(drawn.TransformIndexToPhysicalPoint(index))
    assert scan.GetPixel(*there) == display.picture(1)[1, 2]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.array([-1024, 3000], np.int16), PictureScale(1, 0)),
        (np.array([0, 65535], np.uint16), PictureScale(1, 32768)),
        (np.array([-1000.0, -50.4, 40.2], np.float32), PictureScale(1, 0)),
        (np.array([-5, 100_000], np.int32), None),
        (np.array([0.0, 0.5, 1.0], np.float32), None),
    ],
)
def test_pictures_keep_hu_and_integers_and_spread_the_others(values, scale):
    fitted = PictureScale.fit(values)
    if scale is not None:
        assert fitted == scale
    back = fitted.apply(values[None]).astype(np.float64) * fitted.slope + fitted.intercept
    span = float(values.max()) - float(values.min())
    assert np.abs(back - values).max() <= (0.5 if scale else span / 60000)
    assert fitted.apply(values[None]).dtype == np.dtype("<i2")
