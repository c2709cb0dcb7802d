from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.find import case_id, find_dataset, find_masks, find_scans
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.validation import ScanWarning
from tests.imaging.scans import write_series


def touch(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"never opened")
    return folder


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("liver_0.nii.gz", "liver_0"),
        ("liver_0.nii", "liver_0"),
        ("a.b.c.nrrd", "a.b.c"),
        ("a.seg.nrrd", "a"),
        ("LIVER.NII.GZ", "LIVER"),
        ("a.mhd", "a"),
        ("a.mgz", "a"),
        ("a.b.nii.bz2", "a.b"),
        ("slice.dcm", "slice"),
        ("CT.1.2.840", "CT.1.2.840"),
    ],
)
def test_case_id_of_files(name: str, case: str) -> None:
    assert case_id(Path("somewhere") / name) == case


def test_case_id_of_a_folder_is_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "patient.7"
    folder.mkdir()
    assert case_id(folder) == "patient.7"
    monkeypatch.chdir(folder)
    assert case_id(Path()) == "patient.7"


def test_a_mixed_folder(tmp_path: Path) -> None:
    touch(tmp_path, ["b.nii.gz", "a.nrrd", "c.mhd", "c.raw", "readme.txt", ".hidden.nii.gz", "._b.nii.gz"])
    write_series(tmp_path / "d")
    touch(tmp_path / "notes", ["x.txt"])
    assert find_scans(tmp_path) == {
        "a": tmp_path / "a.nrrd",
        "b": tmp_path / "b.nii.gz",
        "c": tmp_path / "c.mhd",
        "d": tmp_path / "d",
    }
    assert list(find_scans(tmp_path)) == ["a", "b", "c", "d"]


def named(caught: pytest.WarningsRecorder) -> str:
    return " ".join(str(one.message) for one in caught if one.category is ScanWarning)


def test_series_below_are_found_however_deep(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for series in ("P1", "P2/ST1/SE1", "P3/A/SE1", "P3/A/SE2", "P3/B", "P4/a/b/c/d"):
        write_series(tmp_path / series)
    touch(tmp_path / "P2", ["LICENSE.txt", "DICOMDIR"])
    assert find_scans(tmp_path) == {
        "P1": tmp_path / "P1",
        "P2": tmp_path / "P2/ST1/SE1",
        "P3_A_SE1": tmp_path / "P3/A/SE1",
        "P3_A_SE2": tmp_path / "P3/A/SE2",
        "P3_B": tmp_path / "P3/B",
        "P4": tmp_path / "P4/a/b/c/d",
    }
    assert not named(recwarn)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_series(tmp_path / "P1/S")
    (tmp_path / "P1/again").symlink_to(tmp_path / "P1")
    assert find_scans(tmp_path) == {"P1": tmp_path / "P1/S"}


def test_every_entry_is_read_or_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    touch(tmp_path, ["a.nii.gz", "b.mgz", "c.nii.bz2", "d.mhd", "d.zraw", "dataset.json", "slices.csv"])
    touch(tmp_path, ["e.hdr", "e.img", "f.mnc", "g.png"])
    write_series(tmp_path / "P1/S")
    touch(tmp_path / "P1", ["scan.nii.gz"])
    touch(tmp_path / "P2/deep", ["scan.nrrd"])
    touch(tmp_path / "notes", ["x.txt"])
    assert list(find_scans(tmp_path)) == ["P1", "a", "b", "c", "d"]
    with pytest.warns(ScanWarning) as caught:
        find_scans(tmp_path)
    warning = named(caught)
    assert "P1/scan.nii.gz, P2/, e.hdr, e.img, f.mnc and 1 more" in warning
    for read in ("a.nii.gz", "d.zraw", "dataset.json", "notes"):
        assert read not in warning


def test_a_folder_that_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "P1/S")
    inside = Path.iterdir

    def locked(self: Path) -> Iterable[Path]:
        if self.name == "S":
            raise PermissionError(13, "Permission denied")
        return inside(self)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(ScanError, match=r"P1/S cannot be opened \(Permission denied\)"):
        find_scans(tmp_path)


def test_what_lies_beside_a_series_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "P1")
    touch(tmp_path / "P1/other", ["x.dat"])
    with pytest.warns(ScanWarning, match=r"P1: not read: other/"):
        assert find_scans(tmp_path / "P1") == {"P1": tmp_path / "P1"}


def test_masks_from_before_their_refinement_are_not_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    touch(tmp_path, ["a.nii.gz", "predictions.json"])
    touch(tmp_path / "coarse", ["a.nii.gz"])
    assert find_masks(tmp_path) == {"a": tmp_path / "a.nii.gz"}
    assert not named(recwarn)


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_analyze_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    touch(tmp_path, [name])
    for read in (find_scans, read_volume):
        with pytest.raises(ScanError, match="is an Analyze file") as caught:
            read(tmp_path / name)
        assert "left and right" in caught.value.cure


def test_single_scans(tmp_path: Path) -> None:
    touch(tmp_path, ["a.nii.gz"])
    assert find_scans(tmp_path / "a.nii.gz") == {"a": tmp_path / "a.nii.gz"}
    one = write_series(tmp_path / "series")[0]
    assert find_scans(tmp_path / "series") == {"series": tmp_path / "series"}
    assert find_scans(one) == {one.name: one}


@pytest.mark.parametrize("other", ["a.nii.gz", "a.mha", "a.seg.nrrd"])
def test_double_ids_name_both_files(tmp_path: Path, other: str) -> None:
    touch(tmp_path, ["a.nii", other])
    with pytest.raises(PairingError, match="same case id 'a'") as caught:
        find_scans(tmp_path)
    assert "a.nii " in caught.value.problem
    assert other in caught.value.problem


def test_a_folder_and_a_file_of_one_id(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    touch(tmp_path, ["a.nii"])
    with pytest.raises(PairingError, match=r"a and a\.nii have the same case id"):
        find_scans(tmp_path)


def test_nothing_found_tells_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="gone does not exist"):
        find_scans(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanError, match=r"empty holds no scans \(it is empty\)"):
        find_scans(tmp_path / "empty")
    touch(tmp_path / "other", [f"{i}.png" for i in range(7)])
    (tmp_path / "other" / "0dir").mkdir()
    with pytest.raises(ScanError, match=r"it holds 0\.png, 0dir/, 1\.png, .* and 3 more") as caught:
        find_scans(tmp_path / "other")
    assert ".nii.gz" in caught.value.cure
    with pytest.raises(ScanError, match=r"0\.png is not of a known format"):
        find_scans(tmp_path / "other" / "0.png")


def test_loose_dicom_beside_scans_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path)
    touch(tmp_path, ["a.nii"])
    with pytest.raises(ScanError, match=r"DICOM files directly beside other scans \(a\.nii\)"):
        find_scans(tmp_path)


def test_images_and_labels_are_paired_by_id(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["c.nii.gz", "a.nrrd", "b.nii"])
    labels = touch(tmp_path / "labels", ["a.nii.gz", "c.nii.gz"])
    found, masks = find_dataset(images, labels)
    assert list(found) == ["a", "b", "c"]
    assert masks == {"a": labels / "a.nii.gz", "c": labels / "c.nii.gz"}
    assert find_dataset(images, None) == (found, {})


def test_a_label_without_image_is_named(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["a.nii.gz"])
    labels = touch(tmp_path / "labels", ["a.nii.gz", "lost.nii.gz"])
    with pytest.raises(PairingError, match="1 labels without an image.*lost"):
        find_dataset(images, labels)


def test_no_label_fits(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["img_1.nii.gz", "img_2.nii.gz"])
    labels = touch(tmp_path / "labels", ["seg_1.nii.gz"])
    with pytest.raises(PairingError, match="labels seg_1; images img_1, img_2"):
        find_dataset(images, labels)
    with pytest.raises(ScanError, match="nowhere does not exist"):
        find_dataset(images, tmp_path / "nowhere")


def raw_dataset(root: Path, images: Iterable[str], labels: Iterable[str]) -> Path:
    touch(root / "imagesTr", images)
    touch(root / "labelsTr", labels)
    return touch(root, ["dataset.json"])


def test_nnunet_raw_layout(tmp_path: Path) -> None:
    root = raw_dataset(tmp_path, ["liver_001_0000.nii.gz", "liver_002_0000.nii.gz"], ["liver_001.nii.gz"])
    images, masks = find_dataset(root, None)
    assert images == {f"liver_00{i}": root / "imagesTr" / f"liver_00{i}_0000.nii.gz" for i in (1, 2)}
    assert masks == {"liver_001": root / "labelsTr" / "liver_001.nii.gz"}
    assert find_dataset(root / "imagesTr", root / "labelsTr") == (images, masks)
    assert find_dataset(root / "imagesTr", root) == (images, masks)
    assert find_dataset(root / "imagesTr", None) == (images, {})


def test_masks_are_found_in_a_raw_data_set_too(tmp_path: Path) -> None:
    root = raw_dataset(tmp_path, ["a_0000.nii.gz"], ["a.nii.gz"])
    assert find_masks(root) == find_masks(root / "labelsTr") == {"a": root / "labelsTr" / "a.nii.gz"}


def test_one_file_is_not_image_and_label(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["a.nii.gz", "b.nii.gz"])
    with pytest.raises(PairingError, match="a: image and label are the same file.* likewise for 1 more") as caught:
        find_dataset(images, images)
    assert "two different folders" in caught.value.cure
    labels = touch(tmp_path / "labels", ["a.nii.gz"])
    (labels / "b.nii.gz").symlink_to(images / "b.nii.gz")
    with pytest.raises(PairingError, match=r"b: image and label are the same file, .*labels/b\.nii\.gz\n"):
        find_dataset(images, labels)


def test_labels_given_win_over_those_of_the_raw_layout(tmp_path: Path) -> None:
    root = raw_dataset(tmp_path / "raw", ["a_0000.nii.gz"], ["a.nii.gz"])
    mine = touch(tmp_path / "mine", ["a.nrrd"])
    assert find_dataset(root, mine)[1] == {"a": mine / "a.nrrd"}


def test_a_second_channel_is_refused(tmp_path: Path) -> None:
    root = raw_dataset(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"], ["a.nii.gz"])
    with pytest.raises(PairingError, match=r"a_0001\.nii\.gz is a second channel.*one channel is supported"):
        find_dataset(root, None)


def test_ids_that_end_in_numbers_are_no_channels(tmp_path: Path) -> None:
    root = raw_dataset(tmp_path / "amos", ["amos_0001.nii.gz", "amos_0004.nii.gz"], ["amos_0004.nii.gz"])
    images, masks = find_dataset(root, None)
    assert list(images) == ["amos_0001", "amos_0004"]
    assert list(masks) == ["amos_0004"]
    plain = touch(tmp_path / "plain", ["case_0000.nii.gz", "case_0001.nii.gz"])
    assert list(find_dataset(plain, None)[0]) == ["case_0000", "case_0001"]


def test_channels_in_a_plain_folder_are_explained(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["a_0000.nii.gz"])
    with pytest.raises(PairingError) as caught:
        find_dataset(images, touch(tmp_path / "labels", ["a.nii.gz"]))
    assert "imagesTr" in caught.value.cure


def test_a_channel_and_a_plain_file_of_one_case(tmp_path: Path) -> None:
    images = touch(tmp_path / "imagesTs", ["a_0000.nii.gz", "a.nii.gz"])
    with pytest.raises(PairingError, match="same case id 'a'"):
        find_dataset(images, None)


def test_real_folders(shared_data: Path) -> None:
    images, labels = find_dataset(shared_data / "btcv_ct" / "images", shared_data / "btcv_ct" / "labels")
    assert len(images) == 16
    assert list(images) == list(labels)
    assert "dicom_ct" in find_scans(shared_data / "totalsegmentator_example")
