from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from frugalseg.dataset.prepare import prepare
from frugalseg.errors import OptionError, PairingError, ScanError
from frugalseg.imaging.find import find_dataset, find_scans
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.seg_writer import write_seg
from frugalseg.imaging.series import choose_series, format_table, list_series, to_table
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.write import write_mask
from frugalseg.options import PrepareOptions
from tests.imaging.scans import write_series, write_slice
from tests.imaging.segments.series import AUTHOR, make_organs, random_mask, write_source


def write_tree(tree: Path) -> Path:
    """Two patients with a localizer, a report, a segmentation, and thick and thin axial series; one has more."""
    for case in ("P1", "P2"):
        study = tree / case / "ST1"
        localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "Topogram"}
        write_slice(study / "SE1" / "1", np.zeros((4, 6), np.int16), (0, 0, 0), series=f"{case}.1", **localizer)
        thick = {"series": f"{case}.2", "SeriesDescription": "Abdomen portal 5.0"}
        write_series(study / "SE2", 5, (0, 0, 5), **thick, SeriesNumber=2)
        thin = {"series": f"{case}.3", "SeriesDescription": "ABDOMEN  Portal 1.0"}
        write_series(study / "SE3", 9, (0, 0.3, 1.0), **thin, SeriesNumber=3)
        report = {"Rows": None, "Columns": None, "Modality": "SR", "SeriesDescription": "Dose"}
        write_slice(study / "SE9" / "1", np.zeros((4, 6), np.int16), (0, 0, 0), series=f"{case}.9", **report)
    write_series(tree / "P2" / "ST1" / "SE4", 9, (0, 0, 1), series="P2.4", SeriesDescription="Abdomen native 1.0")
    source = write_source(tree / "P2" / "ST2" / "SE5", count=3)
    mask = random_mask(read_volume(source), [1])
    write_seg(mask, tree / "P2" / "ST2" / "SE6" / "1.dcm", source, make_organs(liver=1), AUTHOR)
    return tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree"))


def test_everything_that_a_tree_holds_is_listed(tree: Path) -> None:
    found = {(one.case, one.folder.name): one for one in list_series(tree)}
    assert list(found) == [("P1", f"SE{n}") for n in (1, 2, 3, 9)] + [("P2", f"SE{n}") for n in (1, 2, 3, 4, 9, 5, 6)]
    thin = found["P1", "SE3"]
    assert (thin.description, thin.modality, thin.number, thin.files) == ("ABDOMEN Portal 1.0", "CT", "3", 9)
    assert thin.pixel_mm == (1.5, 0.75)
    assert thin.gap_mm == pytest.approx(1.0)  # along the normal, although the gantry is tilted
    assert {name: one.reason for (_, name), one in found.items()} == {
        **{"SE1": "localizer", "SE2": "", "SE3": "", "SE4": "", "SE5": "", "SE6": "mask (DICOM SEG)", "SE9": "no image"}
    }


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        (["portal", "thinnest"], ("SE3", "SE3")),
        (["portal", "not:1.0"], ("SE2", "SE2")),
        (["thinnest", "PORTAL"], ("SE3", "SE3")),
        (["most-slices", "not:native"], ("SE3", "SE3")),
        (["abdomen*portal*5"], ("SE2", "SE2")),
        (["portal ?.0", "most-slices"], ("SE3", "SE3")),
    ],
)
def test_rules_narrow_the_choice_in_their_order(tree: Path, rules: list[str], chosen: tuple[str, str]) -> None:
    scans = find_scans(tree, rules)
    assert {case: path.name for case, path in scans.items()} == dict(zip(("P1", "P2"), chosen, strict=True))


def test_no_series_is_ever_guessed(tree: Path) -> None:
    with pytest.raises(ScanError) as caught:
        find_scans(tree, ["thinnest"])
    assert "does not choose one series of 1 of 2 patients" in str(caught.value)
    assert "P2: 2 series are left" in str(caught.value)
    for description in ("ABDOMEN Portal 1.0", "Abdomen native 1.0"):
        assert f"{description}, 9 files" in str(caught.value)
    with pytest.raises(ScanError, match=r"(?s)P1: no series is left.*Topogram, 1 files.*\(localizer\).*P2: no series"):
        find_scans(tree, ["arterial"])


def test_every_series_says_why_it_is_not_used(tree: Path) -> None:
    chosen = choose_series(list_series(tree), ["portal", "thinnest"])
    assert {one.folder.name: one.reason for one in chosen if one.case == "P2"} == {
        **{"SE1": "localizer", "SE2": "another has 1 mm", "SE3": "", "SE4": "does not contain 'portal'"},
        **{"SE9": "no image", "SE5": "does not contain 'portal'", "SE6": "mask (DICOM SEG)"},
    }
    rows = to_table(chosen, tree, {chosen[2].folder: "P1"})
    assert rows[2] == ("P1", "P1/ST1/SE3", "3", "ABDOMEN Portal 1.0", "CT", "9", "1.5 × 0.75 × 1", "yes")
    assert rows[0][-1] == "no: localizer"
    assert format_table(rows).splitlines()[0].split() == [
        *("case", "folder", "number", "description", "modality", "files", "spacing_mm", "used")
    ]
    assert format_table(rows * 9).endswith("… and 59 more")


def test_series_in_one_folder_are_named_and_not_mixed(tmp_path: Path) -> None:
    for series, gap in (("1.1", 5.0), ("1.2", 1.0)):
        for path in write_series(tmp_path / series, 3, (0, 0, gap), series=series, SeriesDescription=f"gap {gap}"):
            (tmp_path / "tree" / "P1").mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "tree" / "P1" / f"{series}-{path.name}")
    found = list_series(tmp_path / "tree")
    assert [(one.description, one.files, one.reason) for one in found] == [
        *(("gap 5.0", 3, "2 series in one folder"), ("gap 1.0", 3, "2 series in one folder"))
    ]
    with pytest.raises(ScanError, match="sorted into folders first"):
        find_scans(tmp_path / "tree", ["gap"])


def test_damaged_files_and_values_are_left_to_the_reader(tmp_path: Path) -> None:
    (first, *_) = write_series(tmp_path / "P1", 3)
    whole = first.read_bytes()
    first.write_bytes(whole[:200] + b"\xff" * 300)
    write_series(tmp_path / "P2", 3, PixelSpacing=["1", "1"], SliceThickness=None)
    found = list_series(tmp_path)
    assert {one.case for one in found} == {"P1", "P2"}


def test_other_scans_beside_the_patients_are_kept(tmp_path: Path) -> None:
    write_series(tmp_path / "P1" / "SE1", 4, SeriesDescription="portal")
    write_mask(read_volume(tmp_path / "P1" / "SE1"), tmp_path / "P3.nii.gz")
    assert list(find_scans(tmp_path, ["portal"])) == ["P1", "P3"]
    write_mask(read_volume(tmp_path / "P1" / "SE1"), tmp_path / "P1.nii.gz")
    with pytest.raises(PairingError, match="same case id 'P1'"):
        find_scans(tmp_path, ["portal"])


@pytest.mark.parametrize("rule", ["", " ", "not:"])
def test_an_empty_rule_is_refused(tree: Path, rule: str) -> None:
    with pytest.raises(OptionError, match="empty rule"):
        find_scans(tree, [rule])


def test_rules_for_a_folder_without_series_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="has no sub-folder with DICOM series"):
        find_scans(tmp_path, ["portal"])


def test_masks_are_paired_with_the_patient(tree: Path, tmp_path: Path) -> None:
    scans = find_scans(tree, ["portal", "thinnest"])
    for case, path in scans.items():
        write_mask(random_mask(read_volume(path), [6]), tmp_path / f"{case}.nii.gz")
    images, labels = find_dataset(tree, tmp_path, ["portal", "thinnest"])
    assert images == scans
    assert list(labels) == ["P1", "P2"]


def test_prepare_prints_and_writes_what_it_found(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(ScanWarning, match="right angles"):
        prepare(PrepareOptions(images=tree, out=tmp_path / "store", size=32, series=["portal", "thinnest"], workers=0))
    said = capsys.readouterr().err
    assert "no: localizer" in said
    rows = list(csv.DictReader((tmp_path / "store" / "series.csv").open(encoding="utf-8", newline="")))
    assert [(row["case"], Path(row["folder"]).name) for row in rows if row["used"] == "yes"] == [
        *(("P1", "SE3"), ("P2", "SE3"))
    ]
    assert len(rows) == 11


def test_without_rules_every_series_is_a_scan_and_the_table_says_which_could_not_be_read(
    tree: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="cannot be prepared"):
        prepare(PrepareOptions(images=tree, out=tmp_path / "store", size=32, workers=0, skip_broken=True))
    rows = list(csv.DictReader((tmp_path / "store" / "series.csv").open(encoding="utf-8", newline="")))
    used = {(row["case"], row["used"]) for row in rows if row["folder"].startswith("P1")}
    assert used == {
        *(("P1_ST1_SE1", "yes"), ("P1_ST1_SE2", "yes"), ("P1_ST1_SE3", "yes"), ("P1", "no: no image")),
    }


def test_a_folder_s_headers_are_read_once_each(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def spy(*arguments: object, **options: object) -> object:
        read.append(str(getattr(arguments[0], "name", arguments[0])))
        return dcmread(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pydicom.dcmread", spy)
    find_dataset(tree, None, ["portal", "thinnest"])
    assert len(read) == len(set(read)) == 2 * (1 + 5 + 9 + 1) + 9 + 3 + 1
