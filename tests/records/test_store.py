from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from frugalseg.dataset.store import SliceStore, build_index
from frugalseg.errors import SplitError, StoreError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.scan_index import ScanIndex
from frugalseg.records.split import Split
from frugalseg.records.store import FileStamp, StoreRecord, SuperpixelParameters
from tests.stores import store_record

FIXTURES = Path(__file__).parent / "fixtures"
TIMES = ["cb68f7c", "before_records"]
"""Whose code wrote the fixtures: the commit of that name, and the last one before there were records."""


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", ["store", "store_of_whole_numbers"])
def test_an_older_store_is_written_again_unchanged(tmp_path, time, name):
    path = FIXTURES / time / f"{name}.json"
    StoreRecord.read(path).write(tmp_path / "store.json")
    assert (tmp_path / "store.json").read_text() == path.read_text()


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", ["", "_of_whole_numbers"])
def test_the_identity_of_an_older_store_is_unchanged(tmp_path, monkeypatch, time, name):
    """Otherwise their runs could not be resumed."""
    record = StoreRecord.read(FIXTURES / time / f"store{name}.json")
    store = SliceStore(tmp_path, record, build_index(record.scans, record.parameters.targets))
    (tmp_path / "superpixels.npy").touch()
    expected = json.loads((FIXTURES / time / f"identity{name}.json").read_text())
    split = Split.read(FIXTURES / time / "split.json")
    assert store.identity(split, superpixels="superpixels" in expected) == expected


def test_the_values_of_a_store_are_typed():
    record = StoreRecord.read(FIXTURES / "before_records" / "store.json")
    assert record.parameters.intensity == IntensityScale("ct", -160, 240)
    assert record.parameters.targets == {"liver": (6,)}
    assert record.superpixels == SuperpixelParameters(segments=16, compactness=10.0)
    scan = record.scans[0]
    assert (scan.image, scan.mask) == ("/data/images/scan_00.nii.gz", "/data/labels/scan_00.nii.gz")
    assert (scan.slices, scan.values, scan.labelled, scan.looks_like) == (3, (0, 1, 6), True, "ct")
    assert len(scan.present) == 3


def test_copied_scans_and_superpixels_do_not_change_the_identity():
    record = StoreRecord.read(FIXTURES / "before_records" / "store.json")
    moved = tuple(
        replace(scan, stamp=(FileStamp("/else/a", *scan.stamp[0][1:]), scan.stamp[1])) for scan in record.scans
    )
    other = replace(record, scans=moved, superpixels=SuperpixelParameters(segments=99, compactness=1))
    assert other.identity() == record.identity()
    assert replace(record, scans=record.scans[1:]).identity() != record.identity()


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("parameters", "size"), 0, "size 0 is below 1"),
        (("parameters", "intensity", "kind"), "pet", "'parameters.intensity.kind': invalid enum value 'pet'"),
        (("parameters", "intensity", "low"), 900, "--window 900 240.0"),
        (("scans",), [], "it lists no scan"),
        (("scans", 0, "slices"), 0, "the scan 'scan_00' has 0 slices"),
        (("scans", 0, "slices"), 4, "the scan 'scan_00' does not state for every slice which organs it shows"),
        (("scans", 0, "present", 0), [], "the scan 'scan_00' does not state for every slice which organs it shows"),
        (("scans", 0, "stamp", 0, 1), "1", "'scans[0].stamp[0][1]': expected a whole number, got a text"),
        (("format",), 3, "has format 3, this version of frugalseg reads up to 2"),
    ],
)
def test_impossible_values_are_named(tmp_path, keys, value, told):
    content = json.loads((FIXTURES / "before_records" / "store.json").read_text())
    changed = copy.deepcopy(content)
    within = changed
    for key in keys[:-1]:
        within = within[key]
    within[keys[-1]] = value
    (tmp_path / "store.json").write_text(json.dumps(changed))
    with pytest.raises(StoreError) as error:
        StoreRecord.read(tmp_path / "store.json")
    assert told in error.value.problem
    assert error.value.problem.count(str(tmp_path / "store.json")) == 1


def test_differences_of_parameters_are_named():
    there = store_record({"liver": (6,)}, size=64).parameters
    asked = replace(there, size=32, intensity=IntensityScale("ct", -160, 240))
    assert there.differences(asked) == ["size: 64 in the store, 32 requested"]
    assert there.differences(replace(there, targets={"liver": (6, 7)})) == [
        "targets: {'liver': (6,)} in the store, {'liver': (6, 7)} requested"
    ]


def test_a_split_of_a_user_has_no_format_and_may_name_numbers(tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"train": [1, "b"], "test": ["c"]}')
    assert Split.read(path) == Split(("1", "b"), (), ("c",))
    Split.read(path).write(path)
    assert json.loads(path.read_text()) == {"format": 1, "train": ["1", "b"], "validation": [], "test": ["c"]}
    path.write_text('{"train": ["b"], "test": ["b"]}')
    with pytest.raises(SplitError) as error:
        Split.read(path)
    assert error.value.problem == f"{path}: the split has b both in train and in test"
    assert error.value.cure == "give each patient to one part"


@pytest.mark.parametrize("time", TIMES)
def test_an_older_index_of_test_scans_is_read(time):
    index = ScanIndex.read(FIXTURES / time / "scan_index.json")
    assert [scan.case for scan in index.scans] == [f"scan_{i:02d}" for i in range(4)]
    assert index.scans[0].stamp[1].path == "/data/labels/scan_00.nii.gz"
    assert len(index.split.test) == 1


def test_scans_whose_files_cannot_be_compared_are_left_out_of_the_list(tmp_path):
    content = json.loads((FIXTURES / "before_records" / "scan_index.json").read_text())
    content["scans"][0]["stamp"].append(["/data/images/series/2.dcm", 1, 1])
    del content["scans"][1]["labels_sha256"]
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert [scan.case for scan in ScanIndex.read(tmp_path / "list.json").scans] == ["scan_02", "scan_03"]


def test_the_index_of_a_store_follows_from_its_record():
    record = StoreRecord.read(FIXTURES / "before_records" / "store.json")
    index = build_index(record.scans, record.parameters.targets)
    assert isinstance(index, pd.DataFrame)
    assert index["case"].value_counts().to_dict() == dict.fromkeys((scan.case for scan in record.scans), 3)
    assert index["has_liver"].any()
