from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from frugalseg.errors import FrugalsegError, PairingError, ScanError
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.rtstruct_writer import write_rtstruct
from frugalseg.imaging.segments.seg_writer import write_seg
from frugalseg.imaging.volume import Volume, canonical
from tests.imaging.segments.series import AUTHOR, GRIDS, make_organs, random_mask, write_source

ORGANS = make_organs(liver=6, right_kidney=2, spleen=300)
WRITERS = {"seg": write_seg, "rtstruct": write_rtstruct}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_voxels_come_back_on_every_grid(tmp_path: Path, grid: str, kind: str) -> None:
    source = write_source(tmp_path / "scan", grid)
    scan = read_volume(source)
    mask = random_mask(scan, [6, 2, 300])
    WRITERS[kind](mask, tmp_path / "mask.dcm", source, ORGANS, AUTHOR)
    back = read_labels_on(tmp_path / "mask.dcm", scan, "case")
    assert np.array_equal(back.array, mask.array)
    assert back.same_grid(scan)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("grid", ["axial", "doubly oblique", "tilted gantry"])
def test_a_mask_is_read_onto_a_converted_scan_with_other_axes(tmp_path: Path, grid: str, kind: str) -> None:
    source = write_source(tmp_path / "scan", grid)
    scan = read_volume(source)
    mask = random_mask(scan, [6, 2, 300])
    WRITERS[kind](mask, tmp_path / "mask.dcm", source, ORGANS, AUTHOR)
    turned = canonical(scan)[0]
    swapped = Volume(turned.array.transpose(1, 2, 0), turned.affine[:, [1, 2, 0, 3]])
    back = read_labels_on(tmp_path / "mask.dcm", swapped, "case")
    expected = canonical(mask)[0].array.transpose(1, 2, 0)
    assert np.array_equal(back.array, expected)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_mask_can_be_written_and_read(tmp_path: Path, kind: str) -> None:
    source = write_source(tmp_path / "scan")
    scan = read_volume(source)
    WRITERS[kind](scan.with_array(np.zeros(scan.array.shape, np.uint8)), tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    assert not read_labels_on(tmp_path / "m.dcm", scan, "case").array.any()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_mask_of_another_scan_is_refused(tmp_path: Path, kind: str) -> None:
    source, other = write_source(tmp_path / "a"), write_source(tmp_path / "b")
    scan = read_volume(source)
    WRITERS[kind](random_mask(scan, [6]), tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    with pytest.raises(PairingError, match="frame of reference"):
        read_labels_on(tmp_path / "m.dcm", read_volume(other), "case")
    moved = scan.affine.copy()
    moved[2, 3] += 1.0
    with pytest.raises(PairingError, match="does not lie"):
        read_labels_on(tmp_path / "m.dcm", Volume(scan.array, moved), "case")
    fewer = Volume(scan.array[:, :, :-1], scan.affine)
    with pytest.raises(PairingError, match="does not lie"):
        read_labels_on(tmp_path / "m.dcm", fewer, "case")


@pytest.mark.parametrize("kind", WRITERS)
def test_series_that_do_not_fit_the_mask_are_refused(tmp_path: Path, kind: str) -> None:
    source = write_source(tmp_path / "scan")
    scan = read_volume(source)
    mask = random_mask(scan, [6])
    with pytest.raises(ScanError, match="has other slices than its mask"):
        cut = Volume(mask.array[:, :, 1:], mask.affine)
        WRITERS[kind](cut, tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    with pytest.raises(ScanError, match="label value 9, which has no name"):
        WRITERS[kind](random_mask(scan, [9]), tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    with pytest.raises(ScanError, match="is not a DICOM series"):
        WRITERS[kind](mask, tmp_path / "m.dcm", tmp_path / "scan.nii.gz", ORGANS, AUTHOR)
    file = sorted(source.iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])[2]
    header = dcmread(file)
    del header.FrameOfReferenceUID
    header.save_as(file)
    with pytest.raises(ScanError, match="lacks FrameOfReferenceUID"):
        WRITERS[kind](mask, tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    file.unlink()
    with pytest.raises(ScanError, match="lacks 1 slice"):
        WRITERS[kind](mask, tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    assert not (tmp_path / "m.dcm").exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files_are_errors_of_the_scan(tmp_path: Path, kind: str) -> None:
    source = write_source(tmp_path / "scan")
    scan = read_volume(source)
    WRITERS[kind](random_mask(scan, [6, 2]), tmp_path / "m.dcm", source, ORGANS, AUTHOR)
    whole = (tmp_path / "m.dcm").read_bytes()
    at = whole.index(b"\x08\x00\x16\x00UI")
    (tmp_path / "m.dcm").write_bytes(whole[: at + 4] + b"U\x91" + whole[at + 6 :])  # no such kind of value
    with pytest.raises(FrugalsegError):
        read_labels_on(tmp_path / "m.dcm", scan, "case")
    for share in (0.3, 0.6, 0.9, 0.99):
        (tmp_path / "m.dcm").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(FrugalsegError):
            read_labels_on(tmp_path / "m.dcm", scan, "case")
