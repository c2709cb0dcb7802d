"""What programs that are not ours read in our files: the same voxels, on oblique and flipped grids too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.rtstruct_writer import write_rtstruct
from frugalseg.imaging.segments.seg_writer import write_seg
from frugalseg.imaging.volume import Volume
from tests.imaging.segments.series import AUTHOR, GRIDS, make_organs, random_mask, write_source

ORGANS = make_organs(liver=6, right_kidney=2, spleen=300)
WRITERS = {"seg": write_seg, "rtstruct": write_rtstruct}


@pytest.mark.parametrize("grid", GRIDS)
def test_highdicom_finds_each_voxel_on_its_source_image(tmp_path: Path, grid: str) -> None:
    source = write_source(tmp_path / "scan", grid)
    scan = read_volume(source)
    mask = random_mask(scan, [6, 2, 300])
    write_seg(mask, tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    files = [dcmread(file) for file in source.iterdir()]
    frames = highdicom.seg.segread(tmp_path / "m.dcm").get_pixels_by_source_instance(
        [file.SOPInstanceUID for file in files],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    to_voxel = np.linalg.inv(scan.affine) @ np.diag([-1, -1, 1, 1])
    for file, frame in zip(files, np.array([0, 6, 2, 300])[frames], strict=True):
        along, down = np.split(np.array(file.ImageOrientationPatient, float), 2)
        for row, column in np.ndindex(frame.shape):
            place = np.array(file.ImagePositionPatient, float)
            place = place + row * file.PixelSpacing[0] * down + column * file.PixelSpacing[1] * along
            index = np.rint(to_voxel @ [*place, 1])[:3].astype(int)
            assert frame[row, column] == mask.array[tuple(index)]


@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="needs plastimatch, for example Debian's package")
@pytest.mark.parametrize("grid", ["axial", "prone", "oblique"])
def test_plastimatch_fills_our_contours_with_the_same_voxels(tmp_path: Path, grid: str) -> None:
    source = write_source(tmp_path / "scan", grid, (40, 48), 8)
    scan = read_volume(source)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(scan.array.shape), 2)
    labels = np.select([smooth > 0.05, smooth < -0.05], [6, 300]).astype(np.uint16)
    mask: Volume = scan.with_array(labels)
    write_rtstruct(mask, tmp_path / "rt.dcm", source, ORGANS, AUTHOR)
    command = ["plastimatch", "convert", "--input", tmp_path / "rt.dcm", "--referenced-ct", source]
    subprocess.run([*command, "--output-prefix", tmp_path / "o", "--prefix-format", "nii.gz"], check=True)
    for organ, value in (("liver", 6), ("spleen", 300)):
        found = read_labels_on(tmp_path / "o" / f"{organ}.nii.gz", scan, "case").array
        assert np.array_equal(found > 0, labels == value)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy, of Debian's package dicom3tools")
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("grid", ["axial", "doubly oblique", "tilted gantry"])
def test_the_objects_are_what_the_standard_prescribes(tmp_path: Path, grid: str, kind: str) -> None:
    source = write_source(tmp_path / "scan", grid)
    WRITERS[kind](random_mask(read_volume(source), [6, 2, 300]), tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    said = subprocess.run(["dciodvfy", tmp_path / "m.dcm"], capture_output=True, text=True, check=False)
    lines = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith(("Error", "Warning"))]
    assert lines == []
