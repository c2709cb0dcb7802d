"""One decision for a folder, one message, and no scan scaled as what it is not."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from msgspec import UNSET

from frugalseg.dataset.modality import ModalityError, expected_modality
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, ScanError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.options import PrepareOptions
from frugalseg.phantoms.cohort import write_cohort as write_phantoms
from frugalseg.records.model import Preprocessing
from tests.imaging.scans import write_series
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort


def as_mr(path: Path) -> None:
    """Make a scan one that has no HU."""
    image, _ = tiny_scan(7)
    nib.save(nib.Nifti1Image((image + 1024).clip(0).astype(np.uint16), AFFINE_LPS), path)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_cohort(tmp_path / "ct", 8)[0]


@pytest.fixture
def mr(tmp_path: Path) -> Path:
    images = write_cohort(tmp_path / "mr", 8)[0]
    for path in images.iterdir():
        as_mr(path)
    return images


def options(images: Path, **more: object) -> PrepareOptions:
    given = {"images": images, "out": images.with_name("store"), "size": 32, "workers": 0, **more}
    return PrepareOptions(**given)  # type: ignore[arg-type]


def scale(store: SliceStore) -> tuple[str, float, float]:
    return store.intensity.kind, store.intensity.low, store.intensity.high


def test_values_decide_and_one_line_says_so(ct: Path, mr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*HU")
        assert scale(prepare(options(ct))) == ("ct", -160, 240)
        assert capsys.readouterr().err.count("treated as CT (scan_00: values from") == 1
        assert scale(prepare(options(mr))) == ("mr", 0.5, 99.5)
        assert capsys.readouterr().err.count("treated as MR (scan_00: values from 0") == 1


def test_options_decide_before_values_and_one_warning_says_that_they_differ(mr: Path, ct: Path) -> None:
    with pytest.warns(UserWarning, match="8 of 8 scans do not look like HU .*scaled as CT anyway") as caught:
        store = prepare(options(mr, window=(-100.0, 100.0)))
    assert scale(store) == ("ct", -100, 100)
    assert sum("look like" in str(warning.message) for warning in caught) == 1
    with pytest.warns(UserWarning, match="8 of 8 scans look like HU .*scaled as MR anyway"):
        assert scale(prepare(options(ct, percentiles=(1.0, 99.0)))) == ("mr", 1, 99)
    assert scale(prepare(options(ct, modality="ct", percentiles=(1.0, 99.0), out=ct.with_name("b"))))[0] == "ct"
    with pytest.raises(OptionError, match="--window .* and --percentiles"):
        options(ct, window=(0.0, 1.0), percentiles=(1.0, 99.0))
    for wrong in ({"window": (5.0, 1.0)}, {"percentiles": (5.0, 1.0)}, {"percentiles": (-1.0, 99.0)}):
        with pytest.raises(OptionError, match="--window|--percentiles"):
            options(ct, **wrong)


def test_a_data_set_that_says_what_it_is_is_believed(mr: Path) -> None:
    raw = mr.with_name("Dataset001_X")
    raw.mkdir()
    mr.rename(raw / "imagesTr")
    for name, kind in (("MRI", "mr"), ("CT", "ct")):
        (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": name}}))
        if kind == "ct":
            with pytest.warns(UserWarning, match="8 of 8 scans do not look like HU"):
                store = prepare(options(raw, out=mr.with_name(name)))
        else:
            store = prepare(options(raw, out=mr.with_name(name)))
        assert store.intensity.kind == kind


def test_a_mixed_folder_is_refused_naming_the_scans_of_each_kind(ct: Path) -> None:
    for number in (0, 3, 5):
        as_mr(ct / f"scan_{number:02d}.nii.gz")
    with pytest.raises(ScanError, match="scans of two modalities") as caught:
        prepare(options(ct))
    assert "MR: scan_00, scan_03, scan_05 (values from 0" in caught.value.problem
    assert "CT: scan_01, scan_02, scan_04, scan_06, scan_07 (values" in caught.value.problem
    assert "--modality" in caught.value.cure
    assert scale(prepare(options(ct, modality="mr")))[0] == "mr"


def test_an_odd_scan_that_was_not_looked_at_first_is_found_too(ct: Path) -> None:
    as_mr(ct / "scan_05.nii.gz")
    with pytest.raises(ScanError, match="scan_05 is MR .values from 0 .*; the other scans are CT"):
        prepare(options(ct))
    with pytest.raises(ScanError, match="scan_05 is MR"):
        prepare(options(ct, skip_broken=True))  # it is not broken


def test_dicom_of_two_modalities_is_refused_without_reading_it(tmp_path: Path) -> None:
    for name, tag in (("a", "CT"), ("b", "MR"), ("c", "MR")):
        write_series(tmp_path / "scans" / name, shape=(32, 32), Modality=tag, series=f"1.{ord(name)}")
    with pytest.raises(ScanError, match="CT: a .DICOM's Modality is CT.\n    MR: b, c .DICOM's Modality is MR."):
        prepare(options(tmp_path / "scans"))


def test_where_nothing_tells_percentiles_are_taken_and_a_warning_says_so(ct: Path) -> None:
    for path in ct.iterdir():
        image, _ = tiny_scan(int(path.name[5:7]))
        few = np.where(np.random.default_rng(0).random(image.shape) < 0.005, -50, image.clip(0) + 1)
        nib.save(nib.Nifti1Image(few.astype(np.int16), AFFINE_LPS), path)
    with pytest.warns(UserWarning, match="neither the files nor their values show.*--modality ct"):
        store = prepare(options(ct))
    assert scale(store) == ("mr", 0.5, 99.5)


def test_a_store_that_is_there_is_taken_as_it_was_made(ct: Path, mr: Path) -> None:
    with pytest.warns(UserWarning, match="do not look like HU"):
        made = prepare(options(mr, modality="ct"))
    assert prepare(options(mr)).record == made.record
    # Stores of before did not note what their scans look like.
    scans = tuple(replace(scan, looks_like=UNSET) for scan in made.record.scans)
    replace(made.record, scans=scans).write(made.folder / "store.json")
    old = prepare(options(mr))
    assert old.preprocessing.looks_like == ()
    assert old.identity(old.split())


def test_broken_scans_are_passed_over_while_looking(ct: Path) -> None:
    for number in (0, 1, 3, 7):  # all that are looked at first
        (ct / f"scan_{number:02d}.nii.gz").write_bytes(b"no scan")
    with pytest.warns(UserWarning, match="4 of 8 scans cannot be prepared"):
        store = prepare(options(ct, skip_broken=True))
    assert scale(store) == ("ct", -160, 240)


def test_phantoms_look_like_what_they_are(tmp_path: Path) -> None:
    images, _ = write_phantoms(tmp_path, 3, 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*HU")
        assert scale(prepare(options(images)))[0] == "ct"


@pytest.mark.parametrize(
    ("kind", "looks", "refused"),
    [
        ("ct", ["ct"], "mr"),
        ("ct", [], "mr"),
        ("mr", ["mr"], "ct"),
        ("ct", ["mr"], None),  # trained on purpose on scans that look otherwise
        ("mr", ["ct", "mr"], None),
    ],
)
def test_what_a_model_takes(ct: Path, mr: Path, kind: str, looks: list[str], refused: str | None) -> None:
    preprocessing = Preprocessing(32, IntensityScale(kind, 0, 100), tuple(looks))  # type: ignore[arg-type]
    expected = expected_modality(Path("run"), preprocessing, "auto")
    insisting = expected_modality(Path("run"), preprocessing, kind)  # type: ignore[arg-type]
    for name, folder in (("ct", ct), ("mr", mr)):
        path = folder / "scan_00.nii.gz"
        insisting.check("scan_00", path, read_volume(path))
        if name != refused:
            expected.check("scan_00", path, read_volume(path))
            continue
        words = f"scan_00 is {name.upper()} .values .*; the model was trained on {kind.upper()}"
        with pytest.raises(ModalityError, match=words) as caught:
            expected.check("scan_00", path, read_volume(path))
        assert f"--modality {kind}" in caught.value.cure
    other = "mr" if kind == "ct" else "ct"
    with pytest.raises(OptionError, match=f"--modality {other}: run was trained on {kind.upper()}"):
        expected_modality(Path("run"), preprocessing, other)  # type: ignore[arg-type]


def test_a_store_remembers_what_its_scans_look_like(mr: Path) -> None:
    with pytest.warns(UserWarning, match="do not look like HU"):
        store = prepare(options(mr, modality="ct"))
    assert store.preprocessing.looks_like == ("mr",)
    assert prepare(replace(options(mr), out=mr.with_name("as_mr"))).preprocessing.looks_like == ("mr",)
