"""Scans and masks in trees as hospitals and BIDS keep them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.find import find_dataset, find_masks, find_scans
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.seg_writer import write_seg
from frugalseg.imaging.validation import ScanWarning
from tests.imaging.segments.series import AUTHOR, make_organs, random_mask, write_source


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_segmentations_in_a_tree_are_no_scans_and_masks_for_their_patient(tmp_path: Path) -> None:
    tree, masks = tmp_path / "tree", tmp_path / "masks"
    for case in ("p1", "p2"):
        source = write_source(tree / case / "CT")
        scan = read_volume(source)
        mask = random_mask(scan, [1])
        write_seg(mask, tree / case / "SEG" / "1.dcm", source, make_organs(liver=1), AUTHOR)
        shutil.copytree(tree / case / "SEG", masks / case)
    with pytest.warns(ScanWarning, match="not read: p1/SEG/, p2/SEG/"):
        scans = find_scans(tree)
    assert scans == {f"{case}_CT": tree / case / "CT" for case in ("p1", "p2")}
    assert find_masks(masks) == {case: masks / case for case in ("p1", "p2")}
    assert read_labels_on(masks / "p2", scan, "p2").array.any()
    with pytest.warns(ScanWarning), pytest.raises(ScanError, match="holds masks .* and no scan"):
        find_scans(masks)
    shutil.copy(masks / "p1" / "1.dcm", masks / "p1" / "2.dcm")
    with pytest.raises(ScanError, match="holds 2 masks as DICOM objects: 1.dcm, 2.dcm"):
        find_masks(masks)


def test_bids_images_and_the_masks_of_a_derivative_are_paired(tmp_path: Path) -> None:
    masks = tmp_path / "derivatives" / "manual"
    touch(
        tmp_path / "dataset_description.json",
        tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_ct.nii.gz",
        tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_ct.json",
        tmp_path / "sub-02" / "anat" / "sub-02_ct.nii.gz",
        masks / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_space-orig_desc-liver_dseg.nii.gz",
    )
    scans, labels = find_dataset(tmp_path, masks)
    assert list(scans) == ["sub-01_ses-1", "sub-02"]
    assert {case: path.name for case, path in labels.items()} == {
        "sub-01_ses-1": "sub-01_ses-1_space-orig_desc-liver_dseg.nii.gz"
    }


def test_several_images_of_a_bids_session_keep_their_suffix_and_two_masks_are_refused(tmp_path: Path) -> None:
    touch(*(tmp_path / "sub-01" / "anat" / f"sub-01_{kind}.nii.gz" for kind in ("T1w", "T2w")))
    assert list(find_scans(tmp_path)) == ["sub-01_T1w", "sub-01_T2w"]
    masks = tmp_path / "derivatives"
    touch(*(masks / "sub-01" / f"sub-01_desc-{organ}_mask.nii.gz" for organ in ("liver", "spleen")))
    with pytest.raises(PairingError, match="same case id 'sub-01'"):
        find_masks(masks)
